"""The state function: causal, one order of precedence, never against the metrics."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fleetcast.contract.rows import states_of_rows
from fleetcast.contract.schema import MAINTENANCE, TIMESTAMP
from fleetcast.contract.states import KEPT_STEPS, PRECEDENCE, RECOVERY_STEPS, observed_state
from fleetcast.contract.thresholds import threshold_matrix
from fleetcast.contract.vocabulary import STATES, profile_code, state_code, state_names
from fleetcast.windows.arrays import FleetArrays

METRICS = ("cpu_utilization", "memory_used", "load1_per_core", "uptime_seconds")
MONDAY = int(datetime(2026, 1, 5, 5, tzinfo=UTC).timestamp())
STEPS = 40

VALUE = st.one_of(st.just(np.nan), st.floats(0, 1.03125, width=32))
HISTORY = hnp.arrays(np.float32, (2, STEPS, 4), elements=VALUE).map(lambda v: v * np.float32([1, 1, 4, 4000]))
PLANNED = hnp.arrays(np.bool_, (2, STEPS))
PROFILES = np.array([profile_code("database"), 0])


def states(values, planned=None, timezone="UTC", start=MONDAY):
    times = start + 300 * np.arange(values.shape[1], dtype=np.int64)
    planned = np.zeros(values.shape[:2], dtype=bool) if planned is None else planned
    return state_names(observed_state(values, METRICS, PROFILES, times, planned, timezone))


def healthy(steps=STEPS):
    return np.tile(np.float32([0.3, 0.4, 0.5, 1e6]), (2, steps, 1))


@settings(deadline=None, max_examples=60)
@given(HISTORY, PLANNED, HISTORY, st.integers(0, STEPS - 1))
def test_the_future_never_changes_a_state(values, planned, other, step):
    changed = values.copy()
    changed[:, step + 1 :] = other[:, step + 1 :]
    before, after = states(values, planned), states(changed, planned)
    np.testing.assert_array_equal(before[:, : step + 1], after[:, : step + 1])


@settings(deadline=None, max_examples=60)
@given(HISTORY, PLANNED, HISTORY, st.integers(RECOVERY_STEPS + 1, STEPS - 1))
def test_the_past_beyond_half_an_hour_does_not_either(values, planned, other, step):
    changed = values.copy()
    changed[:, : step - RECOVERY_STEPS] = other[:, : step - RECOVERY_STEPS]
    np.testing.assert_array_equal(states(values, planned)[:, step:], states(changed, planned)[:, step:])


@settings(deadline=None, max_examples=60)
@given(HISTORY, PLANNED)
def test_a_state_never_contradicts_its_metrics(values, planned):
    found = states(values, planned, timezone="America/New_York")
    sampled = ~np.isnan(values).all(axis=2)
    critical = (values >= threshold_matrix(METRICS).astype(np.float32)[PROFILES][:, None, :]).any(axis=2)
    heavy = (values[:, :, 0] >= 0.6) | (values[:, :, 2] >= 1.0)
    assert set(np.unique(found)) <= set(STATES)
    np.testing.assert_array_equal(found == "offline", ~sampled)
    np.testing.assert_array_equal(found == "maintenance", sampled & planned)
    np.testing.assert_array_equal(found == "critical_issue", sampled & ~planned & critical)
    still_heavy = (values[:, :, 0] >= 0.5) | (values[:, :, 2] >= np.float32(0.85))
    assert still_heavy[np.isin(found, ["heavy_load", "morning_spike"])].all()
    assert not heavy[np.isin(found, ["idle", "healthy"])].any()
    assert not (values[:, :, 0] >= np.float32(0.07))[found == "idle"].any()


def test_the_first_rule_that_holds_is_the_state():
    assert set(PRECEDENCE) == set(STATES)
    values, planned = healthy(), np.zeros((2, STEPS), dtype=bool)
    values[0, 0, 0] = np.nan
    values[0, 1, :] = np.nan
    planned[0, 1:3] = True
    values[0, 2:4, 1] = 0.97
    values[0, 5, 0] = 0.7
    values[0, 20, 0] = 0.7
    values[0, 21] = [0.01, 0.4, 0.01, 1e6]
    values[0, 22, 3] = 100.0
    found = states(values, planned)[0]
    assert found[:4].tolist() == ["healthy", "offline", "maintenance", "critical_issue"]
    assert found[4:10].tolist() == ["recovery"] * 6
    assert found[[10, 20, 21, 22, 23]].tolist() == ["healthy", "heavy_load", "idle", "recovery", "healthy"]


@pytest.mark.parametrize(
    ("cpu", "expected"),
    [
        ([0.61, 0.55, 0.51, 0.61, 0.49], "heavy heavy heavy heavy healthy"),
        ([0.61, 0.49, 0.55], "heavy healthy healthy"),  # once left, only the first limit enters it again
        ([0.55, 0.61, np.nan, 0.55], "healthy heavy offline healthy"),
        ([0.61, *[0.55] * (KEPT_STEPS + 1)], "heavy " * (KEPT_STEPS + 1) + "healthy"),
        ([0.04, 0.06, 0.069, 0.07, 0.06], "idle idle idle healthy healthy"),
        ([0.06, 0.04, 0.61, 0.06], "healthy idle heavy healthy"),
    ],
)
def test_a_state_lasts_until_a_wider_limit_is_passed(cpu, expected):
    values = np.full((1, len(cpu), 1), np.nan, np.float32)
    values[0, :, 0] = cpu
    times = MONDAY + 300 * np.arange(len(cpu), dtype=np.int64)
    planned = np.zeros((1, len(cpu)), dtype=bool)
    codes = observed_state(values, ("cpu_utilization",), PROFILES[1:], times, planned, "UTC")
    assert " ".join(state_names(codes)[0]).replace("heavy_load", "heavy") == expected.strip()


def test_a_value_stored_at_the_threshold_is_at_the_threshold():
    values = healthy(3)
    values[0, 1, 1] = np.float32(0.95)
    assert states(values)[0].tolist() == ["healthy", "critical_issue", "recovery"]


@pytest.mark.parametrize(
    ("timezone", "local_hour", "expected"),
    [
        ("UTC", 8, "heavy_load"),
        ("UTC", 9, "morning_spike"),
        ("UTC", 10, "heavy_load"),
        ("America/New_York", 9, "heavy_load"),
        ("America/New_York", 14, "morning_spike"),
    ],
)
def test_the_morning_is_that_of_the_fleets_zone(timezone, local_hour, expected):
    values = healthy(1)
    values[:, :, 0] = 0.7
    start = int(datetime(2026, 1, 5, local_hour, tzinfo=UTC).timestamp())
    assert states(values, timezone=timezone, start=start)[0, 0] == expected
    saturday = start + 5 * 86400
    assert states(values, timezone=timezone, start=saturday)[0, 0] == "heavy_load"


@settings(deadline=None, max_examples=60)
@given(HISTORY)
def test_a_metric_that_no_server_has_makes_no_difference(values):
    wider = np.concatenate([values, np.full((2, STEPS, 1), np.nan, np.float32)], axis=2)
    times = MONDAY + 300 * np.arange(STEPS, dtype=np.int64)
    planned = np.zeros((2, STEPS), dtype=bool)
    codes = observed_state(wider, (*METRICS, "swap_used"), PROFILES, times, planned, "UTC")
    np.testing.assert_array_equal(state_names(codes), states(values))


@settings(deadline=None, max_examples=60)
@given(HISTORY)
def test_rows_have_the_states_of_the_grid(values):
    windows = [
        {
            "server": "b",
            "start": datetime.fromtimestamp(MONDAY + 900, UTC),
            "end": datetime.fromtimestamp(MONDAY + 1800, UTC),
        }
    ]
    maintenance = pa.Table.from_pylist(windows, MAINTENANCE)
    fleet = FleetArrays(("a", "b"), ("database", "unknown"), METRICS, MONDAY, values, maintenance)
    known = ~np.isnan(values).all(axis=2)
    server, step = np.nonzero(known)
    columns = {
        "server": pa.array(np.array(["a", "b"])[server], pa.string()),
        "profile": pa.array(np.array(["database", "unknown"])[server], pa.string()),
        "timestamp": pa.array(MONDAY + 300 * step).cast(TIMESTAMP),
    }
    columns |= {name: pa.array(values[known][:, number], from_pandas=True) for number, name in enumerate(METRICS)}
    found = states_of_rows(pa.table(columns), maintenance, "UTC")
    np.testing.assert_array_equal(found, fleet.states()[known])
    assert not (fleet.states()[~known] != state_code("offline")).any()
