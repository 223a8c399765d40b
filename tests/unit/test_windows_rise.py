"""The known value that follows trends, days that are alike, and what is emptied at a mark."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.model.base import ResidualBase
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.spec import ANCHORS, WindowSpec

MONDAY = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
SPEC = WindowSpec(
    targets=("filesystem_used",), features=("filesystem_used",), levels=(0.1, 0.5, 0.9), context=288, horizon=96
)


def anchor(name: str, series: npt.NDArray[np.floating], end: int) -> npt.NDArray[np.float32]:
    """What the anchor says of the steps after `end`, [step]."""
    values = series.astype(np.float32)[None, :, None]
    fleet = FleetArrays(("a",), ("database",), SPEC.targets, MONDAY, values, MAINTENANCE.empty_table())
    batcher = WindowBatcher(fleet, SPEC, ResidualBase(values, MONDAY, SPEC.horizon, SPEC.levels, SPEC.floor_leads))
    found = batcher.inputs(np.array([0]), np.array([end]))["anchors"][0, :, 0, ANCHORS.index(name)]
    return np.asarray(found.numpy(), np.float32)


@settings(max_examples=20, deadline=None)
@given(slope=st.floats(-1e-4, 1e-4), end=st.integers(600, 3500))
def test_a_line_goes_on(slope: float, end: int) -> None:
    line = 0.5 + slope * np.arange(3700)
    np.testing.assert_allclose(anchor("rise", line, end), line[end + 1 : end + 97], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(period=st.integers(150, 1900), low=st.floats(0.1, 0.4), width=st.floats(0.1, 0.5), end=st.integers(2100, 3500))
def test_what_is_emptied_at_a_mark_is_emptied_again(period: int, low: float, width: float, end: int) -> None:
    teeth = low + width * (np.arange(3700) % period) / (period - 1)
    error = np.abs(anchor("rise", teeth, end) - teeth[end + 1 : end + 97])
    assert (error > 2 * width / period + 1e-5).sum() <= 2  # a step early or late


def test_a_disk_that_trouble_filled_is_emptied_at_its_mark_again() -> None:
    period, low, width = 700, 0.3, 0.2
    teeth = low + width * (np.arange(3700) % period) / period
    filled = 2 * period + 300
    seen = teeth.copy()
    seen[filled : filled + 60] += np.linspace(0, 0.97 - teeth[filled], 60)
    seen[filled + 60 :] = low + width * (np.arange(3700 - filled - 60) % period) / period
    fall = filled + 60 + period
    error = np.abs(anchor("rise", seen, fall - 40) - seen[fall - 39 : fall + 57])
    assert (error > 0.01).sum() <= 2


def test_days_are_compared_with_days_like_them() -> None:
    step = np.arange(14 * STEPS_PER_DAY)
    weekend = step // STEPS_PER_DAY % 7 >= 5
    busy = 0.2 + np.where(weekend, 0.0, 0.5) * np.sin(np.pi * (step % STEPS_PER_DAY) / STEPS_PER_DAY) ** 2
    monday = 7 * STEPS_PER_DAY + 100
    truth = busy[monday + 1 : monday + 97]
    np.testing.assert_allclose(anchor("slot_mean", busy, monday), truth, atol=1e-5)
    np.testing.assert_allclose(anchor("rise", busy, monday), truth, atol=1e-5)
    assert np.abs(anchor("yesterday", busy, monday) - truth).max() > 0.3  # a Sunday


def test_one_unusual_day_is_no_trend() -> None:
    flat = np.full(10 * STEPS_PER_DAY, 0.3)
    flat[6 * STEPS_PER_DAY + 50 : 6 * STEPS_PER_DAY + 60] = 0.9
    end = 8 * STEPS_PER_DAY + 20
    np.testing.assert_allclose(anchor("rise", flat, end), 0.3, atol=1e-6)


@given(silence=st.integers(0, 12))
@settings(max_examples=12, deadline=None)
def test_a_trend_starts_from_the_last_half_hour_or_is_missing(silence: int) -> None:
    line = 0.2 + 1e-4 * np.arange(2500)
    end, seen = 2200, line.copy()
    seen[end + 1 - silence : end + 1] = np.nan
    found = anchor("rise", seen, end)
    if silence < 6:
        np.testing.assert_allclose(found, line[end + 1 : end + 97], atol=1e-5)
    else:
        assert np.isnan(found).all()
