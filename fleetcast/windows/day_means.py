"""Means over former days, step by step, inside of compiled loops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

SUMS = 8  # rooms that `mean_of_days` needs
_EVERY = -1  # all bits set
_TOTAL, _COUNT, _LOW, _HIGH = 0, 1, 2, 3


@compiled
def mean_of_days(values: Floats, alike: Ints, least: int, trimmed: int, sums: Doubles, into: Floats) -> None:
    """Mean over the days that are like a step's own, or over all where fewer than `least` of those have a value.

    Args:
        values: [day, step] with NaN gaps.
        alike: [step], bit i is set where day i is like the step's own.
        least: days that are enough.
        trimmed: of so many days and more the smallest and the largest are left out.
        sums: room for [SUMS, step].
        into: filled [step], NaN where no day has a value.
    """
    like, every, steps, first = sums[:4], sums[4:], len(into), 0
    while first < steps:  # `alike` changes at midnight alone
        last = first + 1
        while last < steps and alike[last] == alike[first]:
            last += 1
        _add_days(values, alike[first], first, last, trimmed, like)
        first = last
    _divide(like, trimmed, into)
    short = 0
    for step in range(steps):
        short += like[_COUNT, step] < least
    if short:
        _add_days(values, _EVERY, 0, steps, trimmed, every)
        _divide(every, trimmed, every[_TOTAL])
        for step in range(steps):
            into[step] = every[_TOTAL, step] if like[_COUNT, step] < least else into[step]


@compiled
def _divide(sums: Doubles, trimmed: int, into: Floats) -> None:
    """Means [step] of what `_add_days` has found; without branches, so that it is vectorised."""
    total, count, low, high = sums[_TOTAL], sums[_COUNT], sums[_LOW], sums[_HIGH]
    for step in range(len(into)):
        whole = count[step] < trimmed
        rest = total[step] - (0.0 if whole else low[step]) - (0.0 if whole else high[step])
        into[step] = np.float32(rest / (count[step] - (0.0 if whole else 2.0)))


@compiled
def _add_days(values: Floats, days: int, first: int, last: int, trimmed: int, sums: Doubles) -> None:
    """Sum, number, smallest and largest [4, step] of the values [day, step] of the days whose bits are set.

    Of the steps first..last-1; the smallest and the largest only where there can be `trimmed` days. Two loops, as one
    of so many arrays is not vectorised.
    """
    total, count = sums[_TOTAL, first:last], sums[_COUNT, first:last]
    low, high = sums[_LOW, first:last], sums[_HIGH, first:last]
    total[:], count[:], low[:], high[:] = 0.0, 0.0, np.inf, -np.inf
    for day in range(len(values)):
        if days >> day & 1:
            series = values[day, first:last]
            for step in range(len(series)):
                value = np.float64(series[step])
                missing = np.isnan(value)
                total[step] += 0.0 if missing else value
                count[step] += 0.0 if missing else 1.0
            for step in range(len(series) if trimmed <= len(values) else 0):
                value = np.float64(series[step])
                low[step] = value if value < low[step] else low[step]
                high[step] = value if value > high[step] else high[step]
