"""Sums in the order of NumPy's, inside of compiled loops: a window is the same bit for bit however it is built."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled

Floats = npt.NDArray[np.float32]

CHAINS = 8  # independent sums at once
_ZERO = np.float32(0)
_BLOCK = 128  # NumPy's pairwise summation splits longer sums


@compiled
def sum_rows(rows: Floats, sums: npt.NDArray[np.float64]) -> None:
    """Sum of each row, one value after the other; `CHAINS` rows at once, so that no sum waits for the one before."""
    for row in range(0, len(rows), CHAINS):
        a, b, c, d, e, f, g, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for step in range(rows.shape[1]):
            a, b = a + np.float64(rows[row, step]), b + np.float64(rows[row + 1, step])
            c, d = c + np.float64(rows[row + 2, step]), d + np.float64(rows[row + 3, step])
            e, f = e + np.float64(rows[row + 4, step]), f + np.float64(rows[row + 5, step])
            g, h = g + np.float64(rows[row + 6, step]), h + np.float64(rows[row + 7, step])
        sums[row], sums[row + 1], sums[row + 2], sums[row + 3] = a, b, c, d
        sums[row + 4], sums[row + 5], sums[row + 6], sums[row + 7] = e, f, g, h


@compiled
def mean_of(values: Floats, low: int, high: int) -> np.float32:
    """Mean of values[low:high]."""
    if high - low == 1:
        return np.float32(values[low])
    return np.float32((_ZERO + pairwise_sum(values, low, high)) / np.float32(high - low))


@compiled
def pairwise_sum(values: Floats, low: int, high: int) -> np.float32:
    """NumPy's pairwise sum (`pairwise_sum` of `numpy/_core/src/umath/loops_utils.h.src`) of values[low:high].

    Not recursive: Numba's cache does not bring recursive functions back.
    """
    if high - low <= _BLOCK:
        return np.float32(_block_sum(values, low, high))
    ranges, sums = np.empty((64, 2), np.int64), np.empty(64, np.float32)
    ranges[0, 0], ranges[0, 1] = low, high
    waiting, done = 1, 0
    while waiting:
        waiting -= 1
        low, high = ranges[waiting, 0], ranges[waiting, 1]
        if high < 0:  # both halves are done
            done -= 1
            sums[done - 1] += sums[done]
        elif high - low <= _BLOCK:
            sums[done] = _block_sum(values, low, high)
            done += 1
        else:
            half = (high - low) // 2
            half -= half % 8
            ranges[waiting, 1] = -1
            ranges[waiting + 1, 0], ranges[waiting + 1, 1] = low + half, high
            ranges[waiting + 2, 0], ranges[waiting + 2, 1] = low, low + half
            waiting += 3
    return np.float32(sums[0])


@compiled
def _block_sum(values: Floats, low: int, high: int) -> np.float32:
    count = high - low
    if count < 8:
        total = _ZERO
        for at in range(low, high):
            total += values[at]
        return total
    a, b, c, d = values[low], values[low + 1], values[low + 2], values[low + 3]
    e, f, g, h = values[low + 4], values[low + 5], values[low + 6], values[low + 7]
    at = low + 8
    while at < low + count - count % 8:
        a, b, c, d = a + values[at], b + values[at + 1], c + values[at + 2], d + values[at + 3]
        e, f, g, h = e + values[at + 4], f + values[at + 5], g + values[at + 6], h + values[at + 7]
        at += 8
    total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    while at < high:
        total += values[at]
        at += 1
    return np.float32(total)
