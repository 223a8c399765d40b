"""How far a target usually rises from here: the changes of former days, from the same slot on.

What grows until it is emptied (a filesystem that is cleaned at a mark, memory of a process that is restarted) is a
sawtooth: it goes on from its low mark once it has passed its high one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled
from fleetcast.windows.day_means import mean_of_days
from fleetcast.windows.sawtooth import unwrap, wrap
from fleetcast.windows.spec import STALE_STEPS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_ENOUGH = 3  # days, from which the smallest and the largest change are left out


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
            unwrap(changes[day], high - low)
    mean_of_days(changes, alike, _ENOUGH, _ENOUGH, sums, rise)
    for step in range(len(rise)):
        rise[step] += values[latest, target]
    if high < np.inf:
        wrap(rise, low, high)


@compiled
def _latest_step(values: Floats, target: int, origin: int) -> int:
    """Step of the latest sample of the last half hour, -1 without one."""
    for step in range(min(origin, len(values) - 1), max(origin - STALE_STEPS, -1), -1):
        if not np.isnan(values[step, target]):
            return step
    return -1
