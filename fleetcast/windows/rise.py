"""How far a target usually rises from here: the changes of former days, from the same slot on.

What grows until it is emptied (a filesystem that is cleaned at a mark, memory of a process that is restarted) is a
sawtooth: it goes on from its low mark once it has passed its high one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled
from fleetcast.windows.day_means import mean_of_days
from fleetcast.windows.spec import STALE_STEPS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_MISSING = np.float32(np.nan)
_ENOUGH = 3  # days, from which the smallest and the largest change are left out
_FALL, _CLIMB = np.float32(0.5), np.float32(0.25)  # of a sawtooth's range: least largest fall, and most largest climb
_WOBBLE = np.float32(0.1)  # of its range: what is less is no fall
LANES = 16  # so many values of a target at once


@compiled
def rise_of(
    values: Floats,
    target: int,
    origin: int,
    lags: Ints,
    alike: Ints,
    series: Floats,
    marks: Floats,
    changes: Floats,
    sums: Doubles,
    rise: Floats,
) -> None:
    """The latest value plus the usual change from its slot to each step's: a trend that knows the time of day.

    The change is the mean over the days, of which the smallest and the largest are left out (a cleaned disk is no
    trend): over like days where there are three of them, else over all. The latest value is that of the last half
    hour; without one the rise is missing. A sawtooth falls where it passes its high mark.

    Args:
        values: [time, target].
        target, origin, lags: what it is of.
        alike, sums: as for `mean_of_days`.
        series: the target's steps after the origin, so many steps back [day, step].
        marks: the target's, as `find_marks` has filled them.
        changes: room for as much as `series`.
        rise: filled [step], in contract units.
    """
    latest, low, high = _latest_step(values, target, origin), marks[0], marks[1]
    if latest < 0:
        rise[:] = np.nan
        return
    for day in range(len(lags)):
        before = latest - lags[day]
        start = values[before, target] if before >= 0 else np.float32(np.nan)
        for step in range(len(rise)):
            changes[day, step] = series[day, step] - start
        if high < np.inf:
            _unwrap(changes[day], high - low)
    mean_of_days(changes, alike, _ENOUGH, _ENOUGH, sums, rise)
    for step in range(len(rise)):
        rise[step] += values[latest, target]
    if high < np.inf:
        _wrap(rise, low, high)


@compiled
def _latest_step(values: Floats, target: int, origin: int) -> int:
    """Step of the latest sample of the last half hour, -1 without one."""
    for step in range(min(origin, len(values) - 1), max(origin - STALE_STEPS, -1), -1):
        if not np.isnan(values[step, target]):
            return step
    return -1


@compiled
def find_marks(values: Floats, first: int, last: int, lanes: Floats, marks: Floats) -> None:
    """Low and high mark [mark, target] of each sawtooth between two steps; infinite for what is none.

    A sawtooth falls by half of its range from a step to the next, and never climbs so fast. `values` is
    [time, target], `lanes` room for [4, LANES x target].
    """
    targets, width = marks.shape[1], lanes.shape[1]
    first, last = max(first, 0), min(last, len(values) - 1)
    high, low, fall, climb = lanes[0], lanes[1], lanes[2], lanes[3]
    high[:], low[:], fall[:], climb[:] = -np.inf, np.inf, 0.0, 0.0
    flat = values[first : max(last, first) + 1].reshape(-1)
    pairs = len(flat) - targets
    for start in range(0, pairs, width):
        now, before = flat[start + targets : start + targets + width], flat[start : start + width]
        for lane in range(min(width, pairs - start)):
            value, change = now[lane], now[lane] - before[lane]
            high[lane] = value if value > high[lane] else high[lane]
            low[lane] = value if value < low[lane] else low[lane]
            climb[lane] = change if change > climb[lane] else climb[lane]
            fall[lane] = -change if -change > fall[lane] else fall[lane]
    for target in range(targets):
        for lane in range(target + targets, width, targets):
            high[target], low[target] = max(high[target], high[lane]), min(low[target], low[lane])
            fall[target], climb[target] = max(fall[target], fall[lane]), max(climb[target], climb[lane])
        span = high[target] - low[target]
        teeth = fall[target] > _FALL * span and climb[target] < _CLIMB * span
        marks[0, target], marks[1, target] = (low[target], high[target]) if teeth else (_MISSING, np.float32(np.inf))


@compiled
def _unwrap(changes: Floats, span: np.float32) -> None:
    """Changes of a sawtooth as if it had not fallen."""
    for step in range(len(changes)):
        if changes[step] < -_WOBBLE * span:
            changes[step] += span


@compiled
def _wrap(rise: Floats, low: np.float32, high: np.float32) -> None:
    """What is above the high mark, as far above the low one instead; at most the high mark."""
    for step in range(len(rise)):
        if rise[step] > high:
            rise[step] = min(low + (rise[step] - high), high)
