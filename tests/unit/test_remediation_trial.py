"""The closed loop: what is done to a simulated fleet changes its future, and the trial counts by how much."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from fleetcast.errors import UsageError
from fleetcast.operate.closed_loop import SeedResult, run_seed
from fleetcast.operate.detectors import perfect_detector
from fleetcast.remediation.trial import Case, ServerCount, keep, make_report
from fleetcast.settings import RemediationSettings
from fleetcast.simulate.spec import FleetSpec
from fleetcast.store.tables_remediation import EffectTable
from tests.desk import NOW, new_store

SPEC = FleetSpec(servers=10, hours=12, seed=3, incidents_per_day=2.0)
SETUP = {"detector": "d", "seeds": [3], "servers": 12, "hours": 12.0, "every_minutes": 60, "holdout_share": 0.25}
SETTINGS = RemediationSettings(holdout_share=0.25, max_concurrent_per_profile=9, max_concurrent=9, takeover_s=600)


@pytest.fixture(scope="module")
def result() -> SeedResult:
    return run_seed(SPEC, 8, 60, perfect_detector(SPEC), SETTINGS)


def test_remediation_that_sees_what_is_coming_avoids_incidents(result: SeedResult) -> None:
    report = make_report(SETUP, result.counts, result.cases, result.refused)
    assert report.servers_acted_on + report.held_out_servers == SPEC.servers
    assert report.held_out_servers
    assert report.plans == len(result.cases) > 3
    assert report.incidents_acted < report.incidents_without
    assert report.avoided.value == report.incidents_without - report.incidents_acted


def test_the_same_seed_gives_the_same_trial() -> None:
    first, second = (run_seed(SPEC, 2, 60, perfect_detector(SPEC), SETTINGS) for _ in range(2))
    assert first.cases
    assert first == second


@pytest.mark.parametrize(("hours", "every"), [(0, 30), (-1, 30), (1, 7), (1, 0)])
def test_a_span_or_a_cycle_that_is_too_short_is_refused(hours: float, every: int) -> None:
    with pytest.raises(UsageError, match="multiple of 5 minutes"):
        run_seed(SPEC, hours, every, perfect_detector(SPEC), SETTINGS)


def counts_of(pairs: list[tuple[int, int]]) -> list[ServerCount]:
    return [ServerCount(f"c{number}", False, one, other) for number, (one, other) in enumerate(pairs)]


def test_the_interval_narrows_with_more_cells_and_covers_nothing_when_nothing_differs() -> None:
    few = make_report(SETUP, counts_of([(2, 1), (2, 2)] * 4), [], 0)
    many = make_report(SETUP, counts_of([(2, 1), (2, 2)] * 100), [], 0)
    widths = [float(one.avoided_share.high or 0) - float(one.avoided_share.low or 0) for one in (few, many)]
    assert widths[0] > 2 * widths[1] > 0
    same = make_report(SETUP, counts_of([(2, 2)] * 10), [], 0)
    assert (same.avoided.low, same.avoided.high) == (0.0, 0.0)
    none = make_report(SETUP, counts_of([(0, 0)]), [], 0)
    assert (none.avoided_share.value, none.false_actions.value) == (None, None)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), st.booleans())
def test_the_figure_lies_within_its_interval_and_held_out_servers_do_not_count(
    pairs: list[tuple[int, int]], held: bool
) -> None:
    counts = counts_of(pairs)
    if held:
        counts = [*counts, ServerCount("h", True, 100, 100)]
    report = make_report(SETUP, counts, [], 0)
    assert report.incidents_without == sum(one for one, _ in pairs)
    assert report.avoided.value is not None
    assert report.avoided.low is not None
    assert report.avoided.high is not None
    assert report.avoided.low <= report.avoided.value <= report.avoided.high
    assert report.held_out_without == (100 if held else 0)


def test_false_actions_are_those_without_an_incident_to_come_and_effects_are_kept() -> None:
    cases = [Case("a", "database", True, False)] * 6 + [Case("b", "database", False, False)] * 2
    report = make_report(SETUP, [], cases, 1)
    assert (report.plans, report.false_actions.value, report.refused) == (8, 0.25, 1)
    effect = report.playbooks["database"]
    assert effect is not None
    assert (effect.treated, effect.treated_incidents, effect.control, effect.control_incidents) == (8, 0, 8, 6)
    with new_store() as store, store.session() as session:
        keep(session, NOW, cases, "a trial")
        rows = session.scalars(select(EffectTable).order_by(EffectTable.arm)).all()
        assert [(row.arm, row.cases, row.incidents, row.source) for row in rows] == [
            ("control", 8, 6, "trial"),
            ("treated", 8, 0, "trial"),
        ]
