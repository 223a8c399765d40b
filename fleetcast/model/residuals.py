"""Loops of the residual base: levels of series with gaps, what followed them, and quantiles of that.

A series is a column of [time, metric] that exists from a step `begin` on. Gaps carry the last sample; before its first
sample a series is 0. A level is the median of six steps.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled, compiled_and_kept

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LEVEL_STEPS = 6
STRIDE = 12  # steps between the past ends that residuals are collected at
BLOCK_STEPS = 24  # residual quantiles are renewed every 2 h of absolute time
_NEVER = 2**62


@compiled_and_kept
def gather_residuals(
    values: Floats,
    columns: Ints,
    windows: Ints,
    leads: Ints,
    lead_starts: Ints,
    span: int,
    levels: Floats,
    residuals: Floats,
    counts: Ints,
) -> None:
    """Collect residuals of series for origins.

    Args:
        values: [server, time, metric] with NaN gaps.
        columns: metrics of the targets [target].
        windows: [window, (row, origin, last step that residuals may read, begin)].
        leads: steps ahead, all buckets one after the other; `lead_starts` [bucket + 1] says where each begins.
        span: steps that the past ends go back.
        levels: filled with the level at the origin [window, target].
        residuals: filled [window, target, bucket, place]; the places that a bucket does not need are infinite.
        counts: filled with the number of residuals [window, bucket].
    """
    rounds = (span + leads[-1] + 3 * BLOCK_STEPS) // STRIDE + 2
    series = np.empty((STRIDE, rounds), np.float32)  # step low + i is at [i % STRIDE, i // STRIDE]
    medians, done = np.empty((STRIDE, rounds), np.float32), np.empty(STRIDE, np.bool_)
    for window in range(len(windows)):
        row, origin, last, begin = windows[window]
        low = max(min(last - leads[-1] - span, origin) - LEVEL_STEPS, begin)
        for target in range(len(columns)):
            first = _fill(values[row], columns[target], begin, low, origin, series)
            levels[window, target] = _level_at(series, origin - low)
            done[:] = False
            for bucket in range(len(lead_starts) - 1):
                latest = last - leads[lead_starts[bucket + 1] - 1]
                earliest = max(latest - span, begin + LEVEL_STEPS - 1)  # exclusive
                ends = max((latest - earliest + STRIDE - 1) // STRIDE, 0)
                began = min(max((latest - LEVEL_STEPS + 1 - first) // STRIDE + 1, 0), ends)
                found, place = residuals[window, target, bucket], 0
                phase = (latest - low) % STRIDE
                if began and not done[phase]:
                    _medians(series, phase, (origin - low) // STRIDE + 1, medians[phase])
                    done[phase] = True
                for lead in range(lead_starts[bucket], lead_starts[bucket + 1]):
                    if began:
                        end = (latest - low) // STRIDE + 1
                        level = medians[phase, end - began : end]
                        ahead = latest - low + leads[lead]
                        end = ahead // STRIDE + 1
                        following = series[ahead % STRIDE, end - began : end]
                        into = found[place : place + began]
                        for number in range(began):
                            into[number] = following[number] - level[number]
                    for number in range(place + began, place + ends):
                        found[number] = 0
                    place += ends
                counts[window, bucket] = place
                for number in range(place, len(found)):
                    found[number] = np.inf


@compiled_and_kept
def quantiles_of(
    residuals: Floats,
    counts: Ints,
    shares: npt.NDArray[np.float64],
    levels: Floats,
    bucket_of: Ints,
    quantiles: Floats,
) -> None:
    """Level + linear quantiles of sorted residuals, at least 0.

    Args:
        residuals: [window, target, bucket, place], ascending.
        counts: number of residuals [window, bucket].
        shares: quantile levels.
        levels: [window, target].
        bucket_of: bucket of each step [horizon].
        quantiles: filled [window, horizon, target, level].
    """
    below, weights = np.empty(len(shares), np.int64), np.empty(len(shares), np.float64)
    spread = np.empty((residuals.shape[2], residuals.shape[1], len(shares)), np.float32)
    for window in range(residuals.shape[0]):
        for bucket in range(residuals.shape[2]):
            count = counts[window, bucket]
            for level in range(len(shares)):
                place = max(count - 1, 0) * shares[level]
                below[level] = int(place)
                weights[level] = place - below[level]
            for target in range(residuals.shape[1]):
                ordered = residuals[window, target, bucket, :count]
                for level in range(len(shares)):
                    residual = _between(ordered, below[level], weights[level])
                    spread[bucket, target, level] = max(levels[window, target] + residual, np.float32(0))
        for step in range(len(bucket_of)):
            found = spread[bucket_of[step]]
            for target in range(residuals.shape[1]):
                for level in range(len(shares)):
                    quantiles[window, step, target, level] = found[target, level]


@compiled
def _fill(values: Floats, column: int, begin: int, low: int, high: int, series: Floats) -> int:
    """Put steps low..high of a column without gaps into `series`; returns the column's first step with a sample."""
    first = _NEVER
    for step in range(begin, high + 1):
        if not np.isnan(values[step, column]):
            first = step
            break
    carried = np.float32(0)
    for step in range(low, begin - 1, -1):
        if not np.isnan(values[step, column]):
            carried = values[step, column]
            break
    phase, place = 0, 0
    for step in range(low, high + 1):
        value = values[step, column]
        carried = carried if np.isnan(value) else value
        series[phase, place] = carried
        phase += 1
        if phase == STRIDE:
            phase, place = 0, place + 1
    return first


@compiled
def _smaller(a: np.float32, b: np.float32) -> np.float32:
    return a if a < b else b


@compiled
def _larger(a: np.float32, b: np.float32) -> np.float32:
    return b if a < b else a


@compiled
def _median(a: np.float32, b: np.float32, c: np.float32, d: np.float32, e: np.float32, f: np.float32) -> np.float32:
    low, high = _smaller(a, b), _larger(a, b)
    a, b, c = _smaller(low, c), _larger(low, _smaller(high, c)), _larger(high, c)
    low, high = _smaller(d, e), _larger(d, e)
    d, e, f = _smaller(low, f), _larger(low, _smaller(high, f)), _larger(high, f)
    third = _smaller(_smaller(c, f), _smaller(_larger(b, d), _larger(a, e)))
    fourth = _smaller(_smaller(_larger(c, d), _larger(b, e)), _larger(a, f))
    return np.float32((third + fourth) / np.float32(2))


@compiled
def _medians(series: Floats, phase: int, rounds: int, medians: Floats) -> None:
    """The level at a phase's steps but the first five; what lies behind the last step has no meaning."""
    a, b, c = _back(series, phase, 5), _back(series, phase, 4), _back(series, phase, 3)
    d, e, f = _back(series, phase, 2), _back(series, phase, 1), _back(series, phase, 0)
    into = medians[1:]
    for place in range(rounds - 1):
        into[place] = _median(a[place], b[place], c[place], d[place], e[place], f[place])
    if phase >= LEVEL_STEPS - 1:
        medians[0] = _level_at(series, phase)


@compiled
def _back(series: Floats, phase: int, steps: int) -> Floats:
    """The steps this many before those of a phase's second round, third round and so on."""
    if phase >= steps:
        return series[phase - steps, 1:]
    return series[phase - steps + STRIDE, :-1]


@compiled
def _level_at(series: Floats, step: int) -> np.float32:
    """The level at a step; the first step stands in for those before it."""
    recent = np.empty(LEVEL_STEPS, np.float32)
    for back in range(LEVEL_STEPS):
        at = max(step - back, 0)
        recent[back] = series[at % STRIDE, at // STRIDE]
    return _median(recent[0], recent[1], recent[2], recent[3], recent[4], recent[5])


@compiled
def _between(ordered: Floats, below: int, weight: float) -> np.float32:
    """As `numpy.quantile`, bit for bit, between a place and the next; 0 of nothing."""
    if len(ordered) == 0:
        return np.float32(0)
    left, right = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    distance = right - left
    if weight >= 0.5:
        return np.float32(right - distance * (1 - weight))
    return np.float32(left + distance * weight)
