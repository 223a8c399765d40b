"""The split in time: one cut, a purge gap, origins that do not share a truth."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import EvaluationError, LeakageError, UsageError
from fleetcast.evaluation.splits import rolling_origins, rolling_windows
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = timedelta(minutes=5)
STEPS, HORIZON = 700, 24
METRICS = ("cpu_utilization", "load1_per_core")


def make_fleet() -> FleetArrays:
    values = np.random.default_rng(0).random((4, STEPS, 2), np.float32)
    names = tuple(f"web{number}" for number in range(4))
    return FleetArrays(names, ("web_api",) * 4, METRICS, int(START.timestamp()), values, MAINTENANCE.empty_table())


def origins_of(windows, stride, cutoff_step, purge=None, label_steps=0, steps=STEPS, horizon=HORIZON):
    cutoff = START + cutoff_step * STEP
    return rolling_origins(int(START.timestamp()), steps, horizon, windows, stride, cutoff, purge, label_steps)


def test_the_last_horizon_ends_with_the_data_and_origins_are_a_stride_apart():
    windows = rolling_windows(make_fleet(), HORIZON, 3, 10, START)
    end = START + (STEPS - 1) * STEP
    assert [window.origin for window in windows] == [end - (HORIZON + back) * STEP for back in (20, 10, 0)]


def test_input_ends_at_the_origin_and_truth_begins_after_it():
    fleet = make_fleet()
    window = rolling_windows(fleet, HORIZON, 1, 1, START)[0]
    past, truth = window.input(), window.truth(METRICS)
    assert past.time_at(past.steps - 1) == window.origin
    assert truth.shape == (4, 2, HORIZON)
    np.testing.assert_array_equal(truth.transpose(0, 2, 1), fleet.values[:, past.steps : past.steps + HORIZON])


@given(
    cutoff=st.integers(0, STEPS),
    windows=st.one_of(st.none(), st.integers(1, 30)),
    stride=st.one_of(st.none(), st.integers(1, 60)),
    horizon=st.integers(1, 100),
    extra=st.integers(0, 50),
    label=st.integers(0, 5),
)
def test_no_scored_truth_was_read_by_a_fit_and_the_gap_is_kept(cutoff, windows, stride, horizon, extra, label):
    purge = horizon + label + extra
    try:
        found = origins_of(windows, stride, cutoff, purge, label, horizon=horizon)
    except EvaluationError:
        return
    first_truth = found.positions[0] + 1
    last_fitted = cutoff - horizon - label
    assert first_truth > cutoff
    assert found.positions[0] - last_fitted >= purge
    assert found.positions[-1] + horizon == STEPS - 1
    truths = [set(range(at + 1, at + 1 + horizon)) for at in found.positions]
    if stride is None:
        assert sum(map(len, truths)) == len(set().union(*truths)), "no truth is scored twice by default"


def test_windows_that_begin_where_training_ends_pass():
    """The protocol of the real VMs: 18 windows of 48 steps, all else for training."""
    steps = 17256
    cutoff = steps - 1 - 18 * 48
    found = origins_of(18, 48, cutoff, steps=steps, horizon=48)
    assert (found.positions[0], found.purge) == (cutoff, 48)
    with pytest.raises(LeakageError):
        origins_of(18, 48, cutoff + 1, steps=steps, horizon=48)
    with pytest.raises(LeakageError, match="17 windows would fit"):
        origins_of(18, 48, cutoff, purge=49, steps=steps, horizon=48)


def test_a_purge_gap_below_horizon_and_label_window_is_refused():
    with pytest.raises(LeakageError, match=r"the purge gap is 23 steps; it must be at least the horizon \(24\)"):
        origins_of(1, 1, 0, purge=23)
    with pytest.raises(LeakageError, match=r"label window \(3\), 27 steps"):
        origins_of(1, 1, 0, purge=26, label_steps=3)
    assert origins_of(1, 1, 0, label_steps=3).purge == 27


def test_windows_before_the_cutoff_and_a_gap_are_refused_with_the_way_out():
    cutoff = STEPS - 1 - 3 * HORIZON  # with this gap there is room for two windows
    with pytest.raises(LeakageError) as caught:
        origins_of(3, HORIZON, cutoff, purge=2 * HORIZON)
    message, allowed = str(caught.value), START + (cutoff + HORIZON) * STEP
    assert f"{START + cutoff * STEP:%Y-%m-%dT%H:%MZ}" in message
    assert f"the first origin allowed is {allowed:%Y-%m-%dT%H:%MZ}" in message
    assert f"{2 * HORIZON} steps" in message
    assert "2 windows would fit" in message
    assert origins_of(2, HORIZON, cutoff, purge=2 * HORIZON).times[0] == allowed


def test_a_cutoff_between_two_steps_counts_as_the_later_one():
    cutoff = START + (STEPS - 1 - HORIZON) * STEP - timedelta(seconds=1)
    assert len(rolling_windows(make_fleet(), HORIZON, 1, 1, cutoff)) == 1
    with pytest.raises(LeakageError, match="bring later data"):
        rolling_windows(make_fleet(), HORIZON, 1, 1, cutoff + timedelta(seconds=2))


def test_all_windows_are_those_that_fit():
    assert len(origins_of(None, None, 0).positions) == (STEPS - 1) // HORIZON
    assert len(origins_of(None, None, STEPS - 1 - 2 * HORIZON).positions) == 2
    with pytest.raises(LeakageError, match="bring later data"):
        origins_of(None, None, STEPS - 1)


def test_too_little_data_and_senseless_counts_are_told_apart_from_leaks():
    with pytest.raises(EvaluationError, match="700") as caught:
        origins_of(100, HORIZON, 0)
    assert not isinstance(caught.value, LeakageError)
    with pytest.raises(UsageError, match="at least 1"):
        origins_of(0, HORIZON, 0)
    with pytest.raises(UsageError, match="at least 1"):
        origins_of(1, 0, 0)


def test_a_fleet_on_another_time_axis_has_no_windows_here():
    with pytest.raises(EvaluationError, match="699 steps"):
        origins_of(1, 1, 0).windows(make_fleet().until(698))
