"""The books: every incident once, by the formula, with an interval that is computed and assumptions that are signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.routing import Routing
from fleetcast.cost.assumptions import list_assumptions, load_assumptions, save_assumptions
from fleetcast.cost.incidents import distinct_incidents
from fleetcast.cost.report import cost_report
from fleetcast.cost.saving import expected_saving
from fleetcast.errors import UsageError
from fleetcast.remediation.effects import note_trial
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings, CostSettings, ProfileCost
from fleetcast.store.engine import Store, open_store
from fleetcast.store.tables import AlertTable

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
STEP = timedelta(minutes=5)
DEFAULTS = CostSettings.model_validate({})
probabilities = st.lists(st.floats(0, 1), max_size=30)
money = st.floats(0, 1e6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/cost.db")


def web(chances: list[float]) -> list[tuple[str, float]]:
    """Forecast incidents of one profile."""
    return [("web_api", chance) for chance in chances]


def risk(level: str, server: str = "web1", open_: bool = False) -> Risk:
    p_30m, p_8h = {"P1": (0.8, 0.9), "P3": (0.1, 0.6), "P4": (0.0, 0.1)}[level]
    return Risk(
        server=server, profile="web_api", origin=START, p_30m=p_30m, p_2h=p_8h, p_8h=p_8h, open=open_, level=level,
        score=50.0, metric="memory_used", metric_probabilities={"memory_used": p_8h}, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


def watch(store: Store, cycles: list[list[Risk]], upstreams: dict[str, list[str]] | None = None) -> datetime:
    """Feeds cycles to the alert engine from `START` on; returns the time of the last."""
    rules = AlertSettings(open_after_cycles=2, resolve_after_cycles=2, shadow=True)
    engine = AlertEngine(store, rules, Routing.default(), FleetMap(edges=upstreams))
    for number, risks in enumerate(cycles):
        engine.observe(risks, START + number * STEP)
    return START + (len(cycles) - 1) * STEP


def test_the_formula_with_the_default_assumptions(store: Store) -> None:
    now = watch(store, [[risk("P3")]] * 13)
    report = cost_report(store, DEFAULTS, now)
    assert (report.incidents, report.expected_incidents, report.observed_hours) == (1, 0.6, 1.0)
    assert report.avoided_usd == pytest.approx(0.6 * 0.85 * 2.5 * 50_000)
    assert report.false_alarms_usd == pytest.approx(0.4 * 100)
    assert report.actions_usd == pytest.approx(20)
    assert report.net_usd == pytest.approx(63_750 - 40 - 20)
    assert report.day is not None
    assert report.month is not None
    assert report.year is not None
    assert report.day.expected == pytest.approx(24 * report.net_usd)
    assert report.month.expected == pytest.approx(30 * report.day.expected)
    assert report.year.expected == pytest.approx(365 * report.day.expected)
    assert report.payback_months == pytest.approx(250_000 / report.month.expected)
    assert report.day.low < report.day.expected < report.day.high
    assert any("Only 1.0 h" in note for note in report.notes)


def test_an_incident_counts_once_however_often_it_is_seen(tmp_path: Path) -> None:
    def counted(name: str, cycles: int) -> tuple[int, float]:
        store = open_store(f"sqlite:///{tmp_path}/{name}.db")
        now = watch(store, [[risk("P3")]] * cycles)
        report = cost_report(store, DEFAULTS, now)
        assert cost_report(store, DEFAULTS, now) == report
        return report.incidents, report.avoided_usd

    assert counted("short", 2) == counted("long", 40)


def test_an_alert_soon_after_the_last_of_its_key_is_the_same_incident(store: Store) -> None:
    once = [[risk("P3")]] * 2 + [[risk("P4")]] * 2
    now = watch(store, once * 3)
    assert cost_report(store, DEFAULTS, now).incidents == 1


def test_an_alert_much_later_is_another_incident(store: Store) -> None:
    once = [[risk("P3")]] * 2 + [[risk("P4")]] * 2
    now = watch(store, once + [[risk("P4")]] * 100 + once)
    assert cost_report(store, DEFAULTS, now).incidents == 2


def test_dependants_and_incidents_that_were_not_forecast_avoid_nothing(store: Store) -> None:
    cycle = [risk("P3", "db1"), risk("P3", "app1"), risk("P1", "late1", open_=True)]
    now = watch(store, [cycle] * 3, upstreams={"app1": ["db1"]})
    report = cost_report(store, DEFAULTS, now)
    assert (report.incidents, report.seen_late) == (1, 1)
    assert report.avoided_usd == pytest.approx(0.6 * 0.85 * 125_000)


def test_what_became_of_the_forecasts_is_shown(store: Store) -> None:
    came = [risk("P3"), risk("P3", "web2")]
    then = [risk("P1", open_=True), risk("P4", "web2")]
    now = watch(store, [came, came, then, then, then])
    report = cost_report(store, DEFAULTS, now)
    assert (report.incidents, report.confirmed, report.passed) == (2, 1, 1)


def test_nothing_seen_is_no_estimate_and_no_zero(store: Store) -> None:
    before = cost_report(store, DEFAULTS, START)
    assert (before.since, before.day, before.payback_months) == (None, None, None)
    assert any("Nothing has been observed" in note for note in before.notes)
    now = watch(store, [[risk("P4")]] * 5)
    quiet = cost_report(store, DEFAULTS, now)
    assert (quiet.since, quiet.incidents, quiet.year) == (START, 0, None)
    assert any("No incident has been forecast" in note for note in quiet.notes)


def test_a_project_that_never_pays_back_says_so(store: Store) -> None:
    now = watch(store, [[risk("P3")]] * 5)
    worthless = DEFAULTS.model_copy(update={"downtime_usd_per_hour": 0.0})
    report = cost_report(store, worthless, now)
    assert report.net_usd < 0
    assert report.payback_months is None


def test_assumptions_are_kept_with_author_and_time(store: Store) -> None:
    values = DEFAULTS.model_copy(update={"downtime_usd_per_hour": 1.0})
    with store.session() as session:
        assert load_assumptions(session, DEFAULTS).author == "settings"
        save_assumptions(session, DEFAULTS, "ann", START)
        save_assumptions(session, values, "bob", START + STEP)
    shown = cost_report(store, DEFAULTS, START + STEP).assumptions
    assert (shown.values, shown.author, shown.at) == (values, "bob", START + STEP)


def test_assumptions_without_end_are_refused(store: Store) -> None:
    endless = DEFAULTS.model_copy(update={"incident_hours": float("inf")})
    with pytest.raises(UsageError, match="incident_hours"), store.session() as session:
        save_assumptions(session, endless, "ann", START)


@pytest.mark.parametrize("name", ["downtime_usd_per_hour", "incident_hours", "false_alarm_usd", "action_usd"])
def test_assumptions_whose_sums_would_not_be_finite_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        CostSettings(**{name: 1e300})


@settings(deadline=None)
@given(probabilities, money, st.floats(0, 100), st.floats(0, 1), money, money)
def test_no_part_of_the_formula_is_negative(
    chances: list[float], usd: float, hours: float, share: float, false_alarm: float, action: float
) -> None:
    values = CostSettings(
        downtime_usd_per_hour=usd, incident_hours=hours, prevented_share=share, false_alarm_usd=false_alarm,
        action_usd=action, project_usd=0.0,
    )  # fmt: skip
    saving = expected_saving(web(chances), values)
    assert min(saving.avoided, saving.false_alarms, saving.actions) >= 0
    assert saving.low <= saving.high
    assert expected_saving(web(chances), values) == saving


@settings(deadline=None)
@given(probabilities, money, st.floats(0.1, 10))
def test_what_is_avoided_is_linear_in_the_cost_of_downtime(chances: list[float], usd: float, factor: float) -> None:
    free = DEFAULTS.model_copy(update={"false_alarm_usd": 0.0, "action_usd": 0.0})
    one = expected_saving(web(chances), free.model_copy(update={"downtime_usd_per_hour": usd}))
    more = expected_saving(web(chances), free.model_copy(update={"downtime_usd_per_hour": usd * factor}))
    assert more.avoided == pytest.approx(one.avoided * factor, abs=1e-6)
    assert (more.low, more.high) == pytest.approx((one.low * factor, one.high * factor), abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=200))
def test_the_interval_is_that_of_poisson_arrivals(chances: list[float]) -> None:
    """Against the closed form: with nothing but avoided incidents the saving is a scaled Poisson number."""
    values = CostSettings(
        downtime_usd_per_hour=1.0, incident_hours=1.0, prevented_share=1.0, false_alarm_usd=0.0, action_usd=0.0,
        project_usd=0.0,
    )  # fmt: skip
    saving = expected_saving(web(chances), values)
    from scipy.stats import poisson

    low, high = poisson.ppf([0.05, 0.95], sum(chances))
    assert abs(saving.low - low) <= 1
    assert abs(saving.high - high) <= 1


@given(st.permutations(range(6)))
def test_the_count_does_not_depend_on_the_order_of_the_rows(order: list[int]) -> None:
    rows = [
        AlertTable(
            id=number, profile="web_api", key=f"k{number % 2}", opened_at=START,
            first_seen_at=START + number * timedelta(hours=3),
            resolved_at=START + number * timedelta(hours=3) + STEP, dependent=False, p_forecast=0.5, confirmed_at=None,
        )
        for number in range(6)
    ]  # fmt: skip
    assert len(distinct_incidents([rows[number] for number in order])) == 2


def test_a_profile_has_its_own_cost_and_prevented_share(store: Store) -> None:
    now = watch(store, [[risk("P3")]] * 13)
    dear = DEFAULTS.model_copy(
        update={"profiles": {"web_api": ProfileCost(downtime_usd_per_hour=200_000, prevented_share=0.5)}}
    )
    report = cost_report(store, dear, now)
    assert report.avoided_usd == pytest.approx(0.6 * 0.5 * 2.5 * 200_000)
    (one,) = report.profiles
    assert (one.profile, one.incidents, one.avoided_usd) == ("web_api", 1, pytest.approx(report.avoided_usd))
    elsewhere = DEFAULTS.model_copy(update={"profiles": {"database": ProfileCost(incident_hours=9)}})
    report = cost_report(store, elsewhere, now)
    assert report.avoided_usd == pytest.approx(0.6 * 0.85 * 125_000)
    assert any("assumptions for database are not used" in note for note in report.notes)


def test_what_was_measured_stands_beside_what_is_assumed(store: Store) -> None:
    now = watch(store, [[risk("P3")]] * 13)
    assert not any("assumed to be prevented" in note for note in cost_report(store, DEFAULTS, now).notes)
    with store.session() as session:
        for arm, incidents in (("treated", 90), ("control", 100)):
            note_trial(session, now, "web_api", arm, 200, incidents, "a trial")
            note_trial(session, now, "database", arm, 200, incidents, "no incident was forecast there")
    (note,) = [note for note in cost_report(store, DEFAULTS, now).notes if "assumed to be prevented" in note]
    assert note.startswith("web_api: 85% of incidents are assumed to be prevented; estimate: prevents 10% of incidents")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 1)), max_size=20))
def test_the_parts_of_the_profiles_add_up(cases: list[tuple[str, float]]) -> None:
    values = DEFAULTS.model_copy(update={"profiles": {"a": ProfileCost(incident_hours=1.0)}})
    whole = expected_saving(cases, values)
    parts = [expected_saving([case for case in cases if case[0] == name], values) for name in ("a", "b")]
    assert whole.net == pytest.approx(sum(part.net for part in parts))
    assert whole.low <= whole.high


def test_all_assumptions_that_ever_were_are_listed_newest_first(store: Store) -> None:
    with store.session() as session:
        save_assumptions(session, DEFAULTS, "ann", START)
        save_assumptions(session, DEFAULTS, "bob", START + STEP)
        found = [(one.author, one.at) for one in list_assumptions(session, DEFAULTS)]
    assert found == [("bob", START + STEP), ("ann", START), ("settings", None)]
    endless = DEFAULTS.model_copy(update={"profiles": {"web_api": ProfileCost.model_construct(incident_hours=1e999)}})
    with pytest.raises(UsageError, match=r"profiles\.web_api\.incident_hours"), store.session() as session:
        save_assumptions(session, endless, "ann", START)
