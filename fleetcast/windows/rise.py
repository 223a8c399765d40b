"""How far a target usually rises from here: the changes of former days, from the same slot on.

What grows until it is emptied (a filesystem that is cleaned at a mark, memory of a process that is restarted) is a
sawtooth: it goes on from its low mark once it has passed its high one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled, compiled_and_kept
from fleetcast.windows.fill_decoder import mark_alike
from fleetcast.windows.series import copy_series, normal, put
from fleetcast.windows.spec import STALE_STEPS

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

_MISSING = np.float32(np.nan)
_ENOUGH = 3.0  # days, from which the smallest and the largest change are left out
_FALL, _CLIMB = np.float32(0.5), np.float32(0.25)  # of a sawtooth's range: least largest fall, and most largest climb
_WOBBLE = np.float32(0.1)  # of its range: what is less is no fall
_LANES = 16  # so many values of a target at once


@compiled_and_kept
def fill_rise(
    history: Floats,
    rows: Ints,
    origins: Ints,
    lags: Ints,
    weekend: Flags,
    now: Ints,
    scales: Floats,
    targets: Ints,
    pool: int,
    slots: Ints,
    decoder: Floats,
    anchors: Floats,
) -> None:
    """The latest value plus the usual change from its slot to each step's: a trend that knows the time of day.

    The change is the mean over the days, of which the smallest and the largest are left out (a cleaned disk is no
    trend): over like days (`fill_decoder.fill_lags`) where there are three of them, else over all. The latest value is
    that of the last half hour; without one the anchor is missing. A sawtooth (`_marks`) falls where it passes its high
    mark.

    Args:
        history, rows, origins, lags, weekend, now, scales, targets, pool: as for `fill_decoder.fill_lags`.
        slots: place of each target.
        decoder: filled [window, token, slot], normalised by the window.
        anchors: the last of them is filled, [window, step, target, anchor], in contract units; or empty.
    """
    horizon = decoder.shape[1] * pool
    changes, alike = np.empty((len(lags), horizon), np.float32), np.empty((len(lags), horizon), np.float64)
    rise, everyday = np.empty(horizon, np.float32), np.ones((len(lags), horizon), np.float64)
    sums = np.empty((4, horizon), np.float64)
    lanes, marks = np.empty((4, _LANES * len(targets)), np.float32), np.empty((2, len(targets)), np.float32)
    for window in range(len(rows)):
        values = history[rows[window]]
        mark_alike(weekend, now[window], lags, alike)
        _marks(values, origins[window] + 1 - lags[-1], origins[window], lanes, marks)
        for target in range(len(targets)):
            center, scale = scales[window, 0, targets[target]], scales[window, 1, targets[target]]
            latest = _latest(values, target, origins[window])
            for day in range(len(lags)):
                before = latest - lags[day]
                known = latest >= 0 and before >= 0
                start = values[before, target] if known else _MISSING
                copy_series(values, target, origins[window] + 1 - lags[day], changes[day])
                for step in range(horizon):
                    changes[day, step] -= start
                if marks[1, target] < np.inf:
                    _unwrap(changes[day], marks[1, target] - marks[0, target])
            rise[:] = _MISSING
            _trimmed_mean(changes, alike, _ENOUGH, sums, rise)
            _trimmed_mean(changes, everyday, 1.0, sums, rise)
            for step in range(horizon):
                rise[step] += values[latest, target] if latest >= 0 else _MISSING
            _wrap(rise, marks[0, target], marks[1, target])
            for step in range(horizon if len(anchors) else 0):
                anchors[window, step, target, anchors.shape[3] - 1] = rise[step]
            for step in range(horizon):
                rise[step] = normal(rise[step], center, scale)
            put(rise, pool, slots[target], decoder[window])


@compiled
def _latest(values: Floats, target: int, origin: int) -> int:
    """Step of the latest sample of the last half hour, -1 without one."""
    for step in range(min(origin, len(values) - 1), max(origin - STALE_STEPS, -1), -1):
        if not np.isnan(values[step, target]):
            return step
    return -1


@compiled
def _marks(values: Floats, first: int, last: int, lanes: Floats, marks: Floats) -> None:
    """Low and high mark [mark, target] of each sawtooth between two steps; infinite for what is none.

    A sawtooth falls by half of its range from a step to the next, and never climbs so fast. `values` is
    [time, target], `lanes` room for [4, _LANES x target].
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


@compiled
def _trimmed_mean(changes: Floats, days: Doubles, least: float, sums: Doubles, into: Floats) -> None:
    """Mean over the days that count, both [day, step], where `into` [step] is missing and at least `least` are there.

    Of `_ENOUGH` and more the smallest and the largest are left out. `sums` is room for [4, step].
    """
    total, count, low, high = sums[0], sums[1], sums[2], sums[3]
    total[:], count[:], low[:], high[:] = 0.0, 0.0, np.inf, -np.inf
    for day in range(len(changes)):
        for step in range(len(into)):
            value = np.float64(changes[day, step])
            use = days[day, step] > 0.0 and not np.isnan(value)
            total[step] += value if use else 0.0
            count[step] += 1.0 if use else 0.0
            low[step] = min(low[step], value if use else np.inf)
            high[step] = max(high[step], value if use else -np.inf)
    for step in range(len(into)):
        if np.isnan(into[step]) and count[step] >= least:
            if count[step] >= _ENOUGH:
                into[step] = np.float32((total[step] - low[step] - high[step]) / (count[step] - 2.0))
            else:
                into[step] = np.float32(total[step] / count[step])
