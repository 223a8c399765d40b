"""What incident scoring counts, on small cases whose answer is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.schema import INCIDENTS, MAINTENANCE, REMEDIATIONS, TOPOLOGY
from fleetcast.evaluation.incident_cases import IncidentCases, collect
from fleetcast.evaluation.incident_report import incident_markdown, reliability_figure
from fleetcast.evaluation.incident_rivals import INCIDENT_RIVALS, linear_trend, node_mixin
from fleetcast.evaluation.incident_scores import (
    alert_scores,
    average_precision,
    brier_skill,
    calibration_line,
    threshold_at,
)
from fleetcast.evaluation.incident_scoring import IncidentScoring
from fleetcast.evaluation.incident_section import incident_section
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.limits import critical_limits
from fleetcast.risk.spread import Spread
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = timedelta(minutes=5)
TARGETS = ("cpu_utilization", "memory_used")


def fleet_of(servers: int = 3, steps: int = 800) -> FleetArrays:
    values = np.full((servers, steps, 2), 0.3, np.float32)
    names = tuple(f"web{number}" for number in range(servers))
    return FleetArrays(
        names, ("web_api",) * servers, TARGETS, int(START.timestamp()), values, MAINTENANCE.empty_table()
    )


def forecast_of(fleet: FleetArrays, position: int) -> ForecastArrays:
    count = len(fleet.servers)
    quantiles = np.tile(np.array([0.2, 0.3, 0.4], np.float32), (count, 2, 96, 1))
    return ForecastArrays(
        fleet.servers, fleet.profiles, TARGETS, (0.1, 0.5, 0.9), START + position * STEP, quantiles,
        ("model",) * count, ("",) * count,
    )  # fmt: skip


def labels_of(*rows: tuple[str, int, int]) -> pa.Table:
    filled = [
        {"incident": f"{server}{onset}", "server": server, "kind": "memory_leak", "cause": None,
         "precursor_start": START + (onset - 5) * STEP, "onset": START + onset * STEP, "end": START + end * STEP}
        for server, onset, end in rows
    ]  # fmt: skip
    return pa.Table.from_pylist(filled, schema=INCIDENTS)


def cases_at(fleet: FleetArrays, *positions: int, **more) -> IncidentCases:
    return collect(fleet, [forecast_of(fleet, position) for position in positions], START + 300 * STEP, **more)


def test_labels_say_what_came_and_thresholds_are_not_looked_at():
    fleet = fleet_of()
    fleet.values[1, 420:440] = 0.99
    cases = cases_at(fleet, 400, labels=labels_of(("web0", 410, 430)))
    assert cases.ahead.tolist() == [[10, 0, 0]]
    assert cases.outcome[0].tolist() == [[False, True, True], [False] * 3, [False] * 3]
    assert cases_at(fleet, 400).ahead.tolist() == [[0, 20, 0]]


def test_servers_in_an_incident_or_its_cool_down_are_censored():
    fleet = fleet_of()
    labels = labels_of(("web0", 410, 430))
    at = (409, 410, 430, 442, 443)
    assert cases_at(fleet, *at, labels=labels).censored[:, 0, 2].tolist() == [False, True, True, True, False]


def test_a_remediated_server_is_censored_unless_the_onset_came_first():
    fleet = fleet_of()
    spans = pa.Table.from_pylist(
        [{"server": name, "start": START + 405 * STEP, "end": START + 408 * STEP} for name in ("web0", "web1")],
        schema=REMEDIATIONS,
    )
    cases = cases_at(fleet, 400, 415, 425, remediated=spans, labels=labels_of(("web1", 403, 404)))
    assert cases.censored[0].tolist() == [[True] * 3, [False] * 3, [False] * 3]
    assert cases.censored[1, 0].tolist() == [True] * 3
    assert cases.censored[2, 0].tolist() == [False] * 3


def test_windows_without_a_sample_or_beyond_the_data_are_censored():
    fleet = fleet_of()
    fleet.values[2, 401:410] = np.nan
    cases = cases_at(fleet, 400, 760)
    assert cases.censored[0, 2].tolist() == [True, False, False]
    assert cases.censored[1].tolist() == [[False, False, True]] * 3


def test_chunks_of_servers_join():
    fleet = fleet_of(4)
    whole = cases_at(fleet, 400, 500, rivals=INCIDENT_RIVALS)
    parts = [cases_at(fleet.of_servers(rows), 400, 500, rivals=INCIDENT_RIVALS) for rows in ([0, 1], [2, 3])]
    joined = IncidentCases.concat(parts)
    np.testing.assert_array_equal(joined.probability, whole.probability)
    assert joined.rivals.keys() == whole.rivals.keys()
    assert joined.servers == whole.servers


def alerts_of(*pairs: tuple[int, int]) -> np.ndarray:
    alerts = np.zeros((10, 2), dtype=bool)
    for pair in pairs:
        alerts[pair] = True
    return alerts


STEPS = np.arange(10) * 4
AHEAD = np.column_stack([np.maximum(30 - STEPS, 0), np.zeros(10, int)])
OPEN = np.zeros((10, 2), dtype=bool)


def test_an_incident_is_one_event_however_often_it_was_alerted_on():
    found = alert_scores(alerts_of((2, 0), (4, 0), (6, 0)), AHEAD, OPEN, STEPS, 24)
    assert (found.events, found.detected, found.true_alerts, found.false_alerts) == (1, 1, 1, 0)
    assert found.leads.tolist() == [22 * 300]


def test_an_alert_that_comes_too_late_detects_nothing_and_is_not_false():
    found = alert_scores(alerts_of((7, 0)), AHEAD, OPEN, STEPS, 24)
    assert (found.detected, found.true_alerts, found.false_alerts, found.late_alerts) == (0, 0, 0, 1)


def test_false_alerts_near_each_other_are_one_and_a_censored_one_is_none():
    assert alert_scores(alerts_of((0, 1), (3, 1)), AHEAD, OPEN, STEPS, 12).false_alerts == 1
    assert alert_scores(alerts_of((0, 1), (9, 1)), AHEAD, OPEN, STEPS, 12).false_alerts == 2
    hidden = OPEN.copy()
    hidden[0, 1] = True
    found = alert_scores(alerts_of((0, 1)), AHEAD, hidden, STEPS, 12)
    assert found.false_alerts == 0
    assert found.server_days == pytest.approx(19 * 4 / 288)


def test_the_threshold_keeps_false_alerts_and_a_better_score_recalls_more():
    random = np.random.default_rng(0)
    steps = np.arange(40) * 96
    ahead = np.where(random.random((40, 50)) < 0.05, random.integers(3, 97, (40, 50)), 0)
    none = np.zeros_like(ahead, dtype=bool)
    recalls = []
    for noise in (3.0, 0.3):
        scores = (ahead > 0) + noise * random.normal(size=ahead.shape)
        bound = threshold_at(scores, ahead, none, steps, 96, 0.05)
        found = alert_scores(scores >= bound, ahead, none, steps, 96)
        assert found.false_rate <= 0.05
        recalls.append(found.recall)
    assert recalls[1] > 0.7 > recalls[0]


def test_average_precision_of_a_known_ranking():
    happened = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), happened) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(np.zeros(4), happened) == pytest.approx(0.5)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.4, 2.0), st.integers(0, 1000))
def test_the_calibration_slope_is_the_one_the_outcomes_were_drawn_with(slope, seed):
    random = np.random.default_rng(seed)
    odds = random.normal(-1, 1.5, 30_000)
    happened = random.random(30_000) < 1 / (1 + np.exp(-slope * odds))
    assert calibration_line(1 / (1 + np.exp(-odds)), happened)[0] == pytest.approx(slope, abs=0.12)


def test_the_prevalence_has_no_skill_and_the_truth_all():
    happened = np.arange(100) < 7
    assert brier_skill(np.full(100, 0.07), happened) == pytest.approx(0)
    assert brier_skill(happened.astype(float), happened) == 1


def test_the_rules_fire_at_their_thresholds_and_ignore_the_future():
    fleet = fleet_of(3, 200)
    fleet.values[0, -3:, 1] = 0.91
    fleet.values[1, -2:, 1] = 0.99
    limits = critical_limits(fleet.profiles, TARGETS)
    said = node_mixin(fleet, TARGETS, limits)
    assert said[0, 0] >= 1 > said[1, 0]
    assert said[2].max() < 1


def test_a_filling_filesystem_fires_and_a_trend_reaches_its_limit_in_time():
    values = np.full((2, 200, 1), 0.65, np.float32)
    values[0, :, 0] = 0.65 + np.linspace(0, 0.2, 200)
    fleet = FleetArrays(
        ("a", "b"), ("web_api",) * 2, ("filesystem_used",), int(START.timestamp()), values, MAINTENANCE.empty_table()
    )
    limits = critical_limits(fleet.profiles, fleet.metrics)
    assert (node_mixin(fleet, fleet.metrics, limits)[:, 0] >= 1).tolist() == [True, False]
    trend = linear_trend(fleet, fleet.metrics, limits)
    assert trend[0, 0] < 1 <= trend[0, 2]
    assert trend[1].max() < 1


def test_the_section_tells_the_model_beside_its_rivals_and_can_be_shown():
    fleet = fleet_of(60)
    fleet.values[::7, 420:440, 1] = 0.99
    cases = cases_at(fleet, 380, 400, 500, rivals=INCIDENT_RIVALS)
    perfect = cases.outcome.astype(float)
    section = incident_section(cases, {"oracle": perfect})
    assert section.row("8h", "oracle").auprc == 1
    assert section.row("8h", "oracle").recall == 1
    assert section.row("8h", "oracle").lead_median_s == 40 * 300
    assert section.row("8h", "oracle").recall_interval == (1, 1)
    assert section.row("8h", "node mixin").brier is None
    assert section.row("8h", "node mixin").brier_skill_interval is None
    low, high = section.row("8h").auprc_interval
    assert low <= section.row("8h").auprc <= high
    assert section.scopes[2].positives == 18
    assert section.scopes[2].events == 9
    assert "node mixin" in incident_markdown(section)
    assert reliability_figure(section).startswith(b"\x89PNG")
    assert type(section).model_validate_json(section.model_dump_json()) == section


@pytest.mark.parametrize("size", [1, 7, 60])
def test_the_section_of_a_backtest_does_not_depend_on_the_chunks(size: int) -> None:
    fleet = fleet_of(60)
    fleet.values[::7, 420:440, 1] = 0.99
    parts = [fleet.of_servers(np.arange(first, min(first + size, 60))) for first in range(0, 60, size)]
    sections = []
    for chunks in ([fleet], parts):
        scoring = IncidentScoring(START + 300 * STEP, None, None, INCIDENTS.empty_table())
        for chunk in chunks:
            scoring.add(chunk, [forecast_of(chunk, position) for position in (380, 400, 500)])
        sections.append(scoring.section())
    assert sections[0] == sections[1]
    assert sections[0].data["scopes"][2]["positives"] == 18
    assert sections[0].data["source"] == {"30m": "line", "2h": "line", "8h": "line"}


def test_the_figures_of_a_fleet_do_not_depend_on_the_order_of_its_servers() -> None:
    fleet = fleet_of(60)
    fleet.values[::7, 420:440, 1] = 0.99
    cases = cases_at(fleet, 380, 400, 500)
    varied = np.random.default_rng(0).random(cases.probability.shape)
    found = []
    for order in (np.arange(60), np.random.default_rng(1).permutation(60)):
        moved = {name: getattr(cases, name)[:, order] for name in ("ahead", "censored", "struck")}
        names = tuple(cases.servers[row] for row in order)
        found.append(incident_section(replace(cases, servers=names, probability=varied[:, order], **moved)))
    for here, there in zip(found[0].scopes, found[1].scopes, strict=True):
        assert here.fleet_groups == there.fleet_groups > 0
        assert here.fleet_said == pytest.approx(there.fleet_said, rel=1e-12)
        assert here.fleet_came == there.fleet_came
        assert (here.fleet_skill or 0) == pytest.approx(there.fleet_skill or 0, rel=1e-9)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_what_comes_from_upstream_does_not_depend_on_the_chunks(size: int) -> None:
    fleet = fleet_of(60)
    fleet.values[0, 380:400, 1] = 0.99
    topology = pa.Table.from_pylist([{"upstream": "web0", "downstream": "web59", "strength": 0.5}], TOPOLOGY)
    calibration = Calibration(spread={"30m": Spread(reach=0.5, after=(0.6, 0.6, 0.6, 0.6))})
    parts = [
        cases_at(fleet.of_servers(np.arange(first, min(first + size, 60))), 300, 382) for first in range(0, 60, size)
    ]
    cases = IncidentCases.concat(parts)
    raised = cases.from_upstream(calibration, topology).probability - cases.probability
    assert raised[1, 59, 0] > 0.2
    raised[1, 59] = 0
    assert np.abs(raised).max() < 1e-5
