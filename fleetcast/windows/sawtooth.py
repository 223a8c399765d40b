"""What grows until it is emptied, as a filesystem that is cleaned at a mark: where it falls and how far."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled

Floats = npt.NDArray[np.float32]

LANES = 32  # so many values of a target at once
_DEEP = np.float32(32)  # a fall is as deep as so many changes of the mean size
_SHARE = np.float32(0.8)  # of all ways down, that the falls of a sawtooth make up at least
_WOBBLE = np.float32(0.1)  # of its range: what is less is no fall


@compiled
def find_marks(values: Floats, first: int, last: int, lanes: Floats, marks: Floats) -> None:
    """Low and high mark [mark, target] of each sawtooth between two steps; infinite for what is none.

    A sawtooth goes down in few deep falls. Its marks are those of the fall that began lowest but not below the latest
    sample: falls from higher were of something that had filled it up beside.

    Args:
        values: [time, target].
        first, last: steps.
        lanes: room for [4, LANES x target].
        marks: filled.
    """
    targets, width = marks.shape[1], lanes.shape[1]
    first, last = max(first, 0), min(last, len(values) - 1)
    total, down, count, deepest = lanes[0], lanes[1], lanes[2], lanes[3]
    lanes[:] = 0.0
    flat = values[first : max(last, first) + 1].reshape(-1)
    pairs = len(flat) - targets
    for start in range(0, pairs, width):
        now, before = flat[start + targets : start + targets + width], flat[start : start + width]
        for lane in range(min(width, pairs - start)):
            fall = before[lane] - now[lane]
            missing = np.isnan(fall)
            total[lane] += np.float32(0) if missing else abs(fall)
            count[lane] += np.float32(0) if missing else np.float32(1)
            down[lane] += fall if fall > 0 else np.float32(0)
            deepest[lane] = fall if fall > deepest[lane] else deepest[lane]
    for target in range(targets):
        for lane in range(target + targets, width, targets):
            total[target], down[target] = total[target] + total[lane], down[target] + down[lane]
            count[target], deepest[target] = count[target] + count[lane], max(deepest[target], deepest[lane])
        marks[0, target], marks[1, target] = np.float32(-np.inf), np.float32(np.inf)
        if deepest[target] * count[target] > _DEEP * total[target]:
            least = _DEEP * total[target] / count[target]
            _marks_of_falls(values[first : last + 1, target], least, _SHARE * down[target], marks[:, target])


@compiled
def _marks_of_falls(series: Floats, least: np.float32, share: np.float32, marks: Floats) -> None:
    """Fill `marks` [mark] from falls of at least `least`, where all of them together are at least `share`."""
    latest = np.float32(np.nan)
    for step in range(len(series) - 1, -1, -1):
        if not np.isnan(series[step]):
            latest = series[step]
            break
    fallen, low, high = np.float32(0), marks[0], marks[1]
    for step in range(1, len(series)):
        before, after = series[step - 1], series[step]
        if before - after > least:
            fallen += before - after
            if latest <= before < high:
                low, high = after, before
    if fallen >= share:
        marks[0], marks[1] = low, high


@compiled
def unwrap(changes: Floats, span: np.float32) -> None:
    """Changes of a sawtooth of this range as if it had not fallen."""
    for step in range(len(changes)):
        if changes[step] < -_WOBBLE * span:
            changes[step] += span


@compiled
def wrap(rise: Floats, low: np.float32, high: np.float32) -> None:
    """What is above the high mark, as far above the low one instead; at most the high mark."""
    for step in range(len(rise)):
        if rise[step] > high:
            rise[step] = min(low + (rise[step] - high), high)
