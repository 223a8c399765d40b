"""The definition of an incident."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.risk.incidents import find_incidents, in_incident, incident_steps, open_now, outcomes
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
METRIC = ("cpu_utilization",)
CALM, HOT, GAP = 0.3, 0.97, float("nan")


def fleet_of(*series: list[float], profile: str = "web_api", metrics: tuple[str, ...] = METRIC) -> FleetArrays:
    values = np.array(series, dtype=np.float32)[:, :, None].repeat(len(metrics), axis=2)
    names = tuple(f"s{number}" for number in range(len(series)))
    return FleetArrays(
        names, (profile,) * len(series), metrics, int(START.timestamp()), values, MAINTENANCE.empty_table()
    )


def spans(*series: list[float]) -> list[tuple[int, int]]:
    return [(int(onset), int(end)) for _, _, onset, end in incident_steps(fleet_of(*series), METRIC)]


def test_three_critical_steps_after_a_calm_hour_are_an_incident():
    assert spans([CALM] * 12 + [HOT] * 3 + [CALM] * 5) == [(12, 14)]


def test_two_critical_steps_are_none():
    assert spans([CALM] * 12 + [HOT] * 2 + [CALM] * 20 + [HOT] * 2) == []


def test_without_a_full_hour_below_there_is_no_onset():
    assert spans([CALM] * 11 + [HOT] * 9) == []
    assert spans([HOT] * 60) == []
    assert spans([CALM] * 2 + [GAP] * 20 + [HOT] * 9) == []


def test_a_breach_that_flickers_is_one_incident():
    assert spans([CALM] * 12 + [HOT] * 3 + [CALM] * 11 + [HOT] * 4 + [CALM]) == [(12, 29)]


def test_an_hour_below_separates_two_incidents():
    assert spans([CALM] * 12 + [HOT] * 3 + [CALM] * 12 + [HOT] * 4) == [(12, 14), (27, 30)]


def test_the_onset_is_the_first_of_three_in_a_row():
    assert spans([CALM] * 12 + [HOT] + [CALM] * 3 + [HOT] * 4) == [(16, 19)]


def test_a_short_gap_does_not_break_a_run_and_a_long_one_does():
    assert spans([CALM] * 12 + [HOT] * 2 + [GAP] * 5 + [HOT] + [CALM] * 3) == [(12, 19)]
    assert spans([CALM] * 12 + [HOT] * 2 + [GAP] * 6 + [HOT] + [CALM] * 3) == []


def test_exactly_at_the_threshold_is_critical_and_the_profile_decides_which():
    assert spans([CALM] * 12 + [0.95] * 3) == [(12, 14)]
    hot = fleet_of([0.1] * 12 + [0.45] * 3, profile="database", metrics=("cpu_iowait",))
    assert len(incident_steps(hot, ("cpu_iowait",))) == 0
    assert len(incident_steps(fleet_of([0.1] * 12 + [0.45] * 3, metrics=("cpu_iowait",)), ("cpu_iowait",))) == 1


def test_the_table_names_server_metric_and_times():
    table = find_incidents(fleet_of([CALM] * 20, [CALM] * 12 + [HOT] * 8), METRIC)
    assert table.to_pylist() == [
        {
            "server": "s1",
            "metric": "cpu_utilization",
            "onset": START + timedelta(minutes=60),
            "end": START + timedelta(minutes=95),
        }
    ]
    assert find_incidents(fleet_of([CALM] * 20), METRIC).num_rows == 0


def test_a_metric_without_threshold_or_without_data_has_no_incident():
    fleet = fleet_of([CALM] * 12 + [1e9] * 9, metrics=("network_receive_bytes",))
    assert len(incident_steps(fleet, ("network_receive_bytes", "memory_used"))) == 0
    assert not open_now(fleet, ("network_receive_bytes", "memory_used")).any()


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([HOT] * 3, True),
        ([CALM] * 5 + [HOT] * 3, True),
        ([CALM] * 5 + [HOT] * 2, False),
        ([HOT] * 5 + [CALM], False),
        ([HOT] * 5 + [GAP] * 6, True),
        ([HOT] * 5 + [GAP] * 7, False),
        ([HOT, GAP, HOT, GAP, HOT, GAP], True),
        ([HOT, HOT] + [GAP] * 6 + [HOT], False),
        ([GAP] * 9, False),
        ([HOT] * 2, False),
    ],
)
def test_open_means_that_the_last_three_samples_in_a_row_are_critical_and_fresh(series, expected):
    assert open_now(fleet_of(series), METRIC).tolist() == [[expected]]


def stretches(*values: float) -> st.SearchStrategy[list[float]]:
    """Series made of stretches of one value each, long enough for calm hours and breaches to occur."""
    stretch = st.tuples(st.sampled_from(values), st.integers(1, 15)).map(lambda pair: [pair[0]] * pair[1])
    return st.lists(stretch, min_size=6, max_size=20).map(lambda parts: [value for part in parts for value in part])


@settings(deadline=None)
@given(stretches(CALM, HOT, GAP))
def test_incidents_are_apart_and_critical_at_both_ends(series):
    found = spans(series)
    for onset, end in found:
        assert onset + 2 <= end
        assert series[onset] == series[end] == HOT
    for (_, before), (after, _) in pairwise(found):
        assert after - before > 12


@settings(deadline=None)
@given(stretches(CALM, HOT, GAP), st.integers(20, 100))
def test_what_comes_later_never_takes_an_onset_back(series, cut):
    assume(cut < len(series))
    assert {onset for onset, _ in spans(series[:cut])} <= {onset for onset, _ in spans(series)}


def test_outcomes_count_onsets_after_the_origin_up_to_the_horizon():
    rows = incident_steps(fleet_of([CALM] * 12 + [HOT] * 5, [CALM] * 17), METRIC)
    assert outcomes(rows, 2, 6, (5, 6)).tolist() == [[False, True], [False, False]]
    assert outcomes(rows, 2, 12, (6, 96)).tolist() == [[False, False], [False, False]]


def test_an_incident_and_the_hour_after_it_count_as_in_it():
    rows = incident_steps(fleet_of([CALM] * 12 + [HOT] * 3 + [CALM] * 20), METRIC)
    inside = [step for step in range(35) if in_incident(rows, 1, step)[0]]
    assert inside == list(range(12, 27))
