"""Loops that fill the tensors of a batch of windows from samples with gaps.

Window i has its origin at `values[rows[i], ends[i]]` and `history[rows[i], origins[i]]`; steps outside of the time axis
are missing, and so is a metric whose column is -1. A slot is a variable's place on the last axis of a tensor. Sums are
taken in the order of NumPy's, so that a window is the same bit for bit however it is built.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled, compiled_and_kept
from fleetcast.windows.scaling import CLIP, RELATIVE_SCALE, SMALLEST_SCALE

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

_ZERO, _LIMIT = np.float32(0), np.float32(CLIP)
_RELATIVE, _SMALLEST = np.float32(RELATIVE_SCALE), np.float32(SMALLEST_SCALE)
_CHAINS = 8  # independent sums at once
_BLOCK = 128  # NumPy's pairwise summation splits longer sums


@compiled_and_kept
def fill_encoder(
    values: Floats,
    columns: Ints,
    rows: Ints,
    ends: Ints,
    history: Floats,
    origins: Ints,
    pools: Ints,
    targets: Ints,
    slots: Ints,
    peak_slots: Ints,
    share_slot: int,
    encoder: Floats,
    scales: Floats,
    observed: Ints,
) -> None:
    """Observed variables of the encoder, normalised by the window, as means of each token's steps.

    Args:
        values: [server, time, metric].
        columns: metric of each feature that is no target.
        rows, ends: the windows.
        history: [server, time, target], of which a window has its origin at `origins`.
        pools: steps of each token.
        targets: which features are targets.
        slots, peak_slots, share_slot: places of the features, of the targets' peaks and of the observed share; without
            `peak_slots` tokens are steps, and there is no share.
        encoder: filled [window, token, slot].
        scales: filled [window, (center, scale, magnitude), feature], see `scaling.center_and_scale`.
        observed: filled with steps at which each target was seen, and then any of them, [window, target + 1].
    """
    length, features = pools.sum(), len(columns)
    context = np.empty((features, length), np.float32)
    scaled = np.empty((features, length), np.float32)
    scratch = np.zeros((-(-features // _CHAINS) * _CHAINS, length), np.float32)
    seen, gaps = np.empty(features, np.int64), np.empty((features, len(pools)), np.int64)
    token_of = np.repeat(np.arange(len(pools)), pools)
    for window in range(len(rows)):
        for feature in range(features):
            copy_series(values[rows[window]], columns[feature], ends[window] - length + 1, context[feature])
        for target in range(len(targets)):
            copy_series(history[rows[window]], target, origins[window] - length + 1, context[targets[target]])
        _scales_of(context, scratch, seen, scales[window])
        for feature in range(features):
            _normalise(context[feature], scales[window, 0, feature], scales[window, 1, feature], scaled[feature])
        _count(context, targets, seen, observed[window])
        if not len(peak_slots):
            for feature in range(features):
                encoder[window, :, slots[feature]] = scaled[feature]
            continue
        for feature in range(features):
            _find_gaps(context[feature], seen[feature], token_of, gaps[feature])
            _pool(scaled[feature], pools, gaps[feature], slots[feature], encoder[window])
        for number in range(len(targets)):
            _peaks(scaled[targets[number]], pools, peak_slots[number], encoder[window])
        for token in range(len(pools)):
            count = pools[token] * len(targets)
            for number in range(len(targets)):
                count -= gaps[targets[number], token]
            share = np.float32(count) / np.float32(len(targets))
            encoder[window, token, share_slot] = np.float32(np.float64(share) / pools[token])


@compiled_and_kept
def fill_known(
    origins: Ints,
    offsets: Ints,
    calendar: Floats,
    calendar_origin: int,
    calendar_slots: Ints,
    positions: Floats,
    position_slot: int,
    statics: Floats,
    static_slots: Ints,
    empty_slots: Ints,
    tensor: Floats,
) -> None:
    """Calendar, position, statics and zeros.

    Args:
        origins: the windows' origins on the fleet's time axis.
        offsets: first step of each token, relative to the origin.
        calendar: [time, variable]; step 0 of the fleet's axis is at `calendar_origin`.
        calendar_slots, position_slot, static_slots, empty_slots: places of what is filled.
        positions: of each token.
        statics: [window, variable].
        tensor: filled [window, token, slot].
    """
    for window in range(len(origins)):
        for token in range(len(offsets)):
            into = tensor[window, token]
            time = calendar[origins[window] + offsets[token] + calendar_origin]
            for number in range(len(calendar_slots)):
                into[calendar_slots[number]] = time[number]
            into[position_slot] = positions[token]
            for number in range(len(static_slots)):
                into[static_slots[number]] = statics[window, number]
            for number in range(len(empty_slots)):
                into[empty_slots[number]] = _ZERO


@compiled_and_kept
def fill_planned(
    servers: Ints,
    origins: Ints,
    offsets: Ints,
    span_starts: Ints,
    spans: Ints,
    pool: int,
    slot: int,
    tensor: Floats,
) -> None:
    """Planned maintenance: the share of each token's first `pool` steps.

    Args:
        servers, origins: the windows.
        offsets: first step of each token, relative to the origin, ascending.
        span_starts: where each server's spans begin, and where the last one's end, [server + 1].
        spans: (first step, first step after) on the fleet's axis.
        pool: steps of a token.
        slot: place of the variable.
        tensor: filled [window, token, slot].
    """
    steps = np.empty(pool, np.float32)
    for window in range(len(servers)):
        low, high = span_starts[servers[window]], span_starts[servers[window] + 1]
        some = False
        for span in range(low, high):
            reached = spans[span, 0] < origins[window] + offsets[-1] + pool
            some |= reached and spans[span, 1] > origins[window] + offsets[0]
        if not some:
            tensor[window, :, slot] = _ZERO
            continue
        for token in range(len(offsets)):
            for step in range(pool):
                time = origins[window] + offsets[token] + step
                steps[step] = _ZERO
                for span in range(low, high):
                    if spans[span, 0] <= time < spans[span, 1]:
                        steps[step] = np.float32(1)
            tensor[window, token, slot] = _mean(steps, 0, pool)


@compiled_and_kept
def fill_lags(
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
    """The same slot yesterday and its mean over the days that are like its own, normalised by the window.

    Two days are alike when both are of a weekend or both are not; without a like day the mean is that of all.

    Args:
        history, rows, origins: as for `fill_encoder`.
        lags: steps back of each day.
        weekend: [time], for each step, `now` [window] the places of the origins there.
        scales: as `fill_encoder` has filled it.
        targets: which features are targets.
        pool: steps of a decoder token.
        slots: places [target, (yesterday, mean)].
        decoder: filled [window, token, slot].
        anchors: filled [window, step, target, (yesterday, mean)] in contract units, NaN where there is no sample; or
            empty.
    """
    horizon = decoder.shape[1] * pool
    yesterday, mean = np.empty(horizon, np.float32), np.empty(horizon, np.float32)
    total, count = np.empty((2, horizon), np.float64), np.empty((2, horizon), np.float64)
    series, alike = np.empty(horizon, np.float32), np.empty((len(lags), horizon), np.float64)
    for window in range(len(rows)):
        mark_alike(weekend, now[window], lags, alike)
        for target in range(len(targets)):
            feature = targets[target]
            center, scale = scales[window, 0, feature], scales[window, 1, feature]
            total[:], count[:] = 0.0, 0.0
            for day in range(len(lags)):
                copy_series(history[rows[window]], target, origins[window] + 1 - lags[day], series)
                if day == 0 and len(anchors):
                    anchors[window, :, target, 0] = series
                for step in range(horizon):
                    series[step] = (series[step] - center) / scale
                for step in range(horizon):
                    missing = np.isnan(series[step])
                    value, one = np.float64(_ZERO if missing else series[step]), 0.0 if missing else 1.0
                    total[0, step] += value
                    count[0, step] += one
                    total[1, step] += value * alike[day, step]
                    count[1, step] += one * alike[day, step]
                if day == 0:
                    for step in range(horizon):
                        yesterday[step] = _clipped(series[step])
            for step in range(horizon):
                kind = 1 if count[1, step] else 0
                average = np.float32(total[kind, step] / count[kind, step]) if count[kind, step] else np.float32(np.nan)
                mean[step] = _clipped(average)
                if len(anchors):
                    anchors[window, step, target, 1] = center + scale * average
            put(yesterday, pool, slots[target, 0], decoder[window])
            put(mean, pool, slots[target, 1], decoder[window])


@compiled
def mark_alike(weekend: Flags, now: int, lags: Ints, alike: Doubles) -> None:
    """1 where a step [step] and its slot so many steps back [day] are both of a weekend or both not, else 0."""
    for day in range(len(lags)):
        for step in range(alike.shape[1]):
            ahead = now + 1 + step
            alike[day, step] = 1.0 if weekend[ahead] == weekend[ahead - lags[day]] else 0.0


@compiled_and_kept
def fill_base(
    base: Floats, median: int, scales: Floats, targets: Ints, pool: int, slots: Ints, decoder: Floats
) -> None:
    """Median and band of the untrained quantiles, normalised by the window.

    Args:
        base: [window, horizon, target, level], levels ascending.
        median: the median's level.
        scales, targets, pool: as for `fill_lags`.
        slots: places [target, (median, band)].
        decoder: filled [window, token, slot].
    """
    horizon = base.shape[1]
    middle, band = np.empty(horizon, np.float32), np.empty(horizon, np.float32)
    for window in range(len(base)):
        for target in range(len(targets)):
            center, scale = scales[window, 0, targets[target]], scales[window, 1, targets[target]]
            last = base.shape[3] - 1
            for step in range(horizon):
                middle[step] = base[window, step, target, median]
                band[step] = base[window, step, target, last] - base[window, step, target, 0]
            for step in range(horizon):
                middle[step] = normal(middle[step], center, scale)
                band[step] = _clipped(band[step] / scale)
            put(middle, pool, slots[target, 0], decoder[window])
            put(band, pool, slots[target, 1], decoder[window])


@compiled_and_kept
def fill_truth(history: Floats, rows: Ints, origins: Ints, truth: Floats) -> None:
    """What came after the origins, NaN where there was no sample, [window, horizon, target]."""
    for window in range(len(rows)):
        for target in range(truth.shape[2]):
            copy_series(history[rows[window]], target, origins[window] + 1, truth[window, :, target])


@compiled
def copy_series(values: Floats, column: int, first: int, into: Floats) -> None:
    """Steps from `first` on of one column."""
    if column >= 0 and first >= 0 and first + len(into) <= values.shape[0]:
        for step in range(len(into)):
            into[step] = values[first + step, column]
        return
    for step in range(len(into)):
        time = first + step
        into[step] = values[time, column] if column >= 0 and 0 <= time < values.shape[0] else np.nan


@compiled
def _scales_of(context: Floats, scratch: Floats, seen: Ints, scales: Floats) -> None:
    """Center, scale and magnitude of [feature, time], see `scaling.center_and_scale`; `seen` is filled with counts."""
    features, length = context.shape
    sums, negative = np.empty(len(scratch), np.float64), False
    for feature in range(features):
        series, into, missing = context[feature], scratch[feature], 0
        for step in range(length):
            missing += np.isnan(series[step])
            into[step] = _ZERO if np.isnan(series[step]) else series[step]
            negative |= series[step] < _ZERO
        seen[feature] = length - missing
    _sum_rows(scratch, sums)
    for feature in range(features):
        scales[0, feature] = scales[2, feature] = np.float32(sums[feature] / max(np.float64(seen[feature]), 1.0))
    if negative:
        for feature in range(features):
            for step in range(length):
                scratch[feature, step] = abs(scratch[feature, step])
        _sum_rows(scratch, sums)
        for feature in range(features):
            scales[2, feature] = np.float32(sums[feature] / max(np.float64(seen[feature]), 1.0))
    for feature in range(features):
        series, into, center = context[feature], scratch[feature], scales[0, feature]
        for step in range(length):
            square = (series[step] - center) * (series[step] - center)
            into[step] = _ZERO if np.isnan(square) else square
    _sum_rows(scratch, sums)
    for feature in range(features):
        deviation = np.sqrt(np.float32(sums[feature] / max(np.float64(seen[feature]), 1.0)))
        scales[1, feature] = deviation + _RELATIVE * scales[2, feature] + _SMALLEST


@compiled
def _sum_rows(rows: Floats, sums: npt.NDArray[np.float64]) -> None:
    """Sum of each row, one value after the other; `_CHAINS` rows at once, so that no sum waits for the one before."""
    for row in range(0, len(rows), _CHAINS):
        a, b, c, d, e, f, g, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for step in range(rows.shape[1]):
            a, b = a + np.float64(rows[row, step]), b + np.float64(rows[row + 1, step])
            c, d = c + np.float64(rows[row + 2, step]), d + np.float64(rows[row + 3, step])
            e, f = e + np.float64(rows[row + 4, step]), f + np.float64(rows[row + 5, step])
            g, h = g + np.float64(rows[row + 6, step]), h + np.float64(rows[row + 7, step])
        sums[row], sums[row + 1], sums[row + 2], sums[row + 3] = a, b, c, d
        sums[row + 4], sums[row + 5], sums[row + 6], sums[row + 7] = e, f, g, h


@compiled
def _normalise(series: Floats, center: np.float32, scale: np.float32, into: Floats) -> None:
    for step in range(len(series)):
        value = (series[step] - center) / scale
        value = _ZERO if np.isnan(value) else value
        value = _LIMIT if value > _LIMIT else value
        into[step] = -_LIMIT if value < -_LIMIT else value


@compiled
def _count(context: Floats, targets: Ints, seen: Ints, observed: Ints) -> None:
    """Steps at which each target was seen, and then any of them; `seen` holds the features' counts."""
    length = context.shape[1]
    for number in range(len(targets)):
        observed[number] = seen[targets[number]]
    observed[-1] = length if observed[:-1].max() == length else 0
    if observed[-1]:
        return
    for step in range(length):
        some = False
        for number in range(len(targets)):
            some |= not np.isnan(context[targets[number], step])
        observed[-1] += some


@compiled
def _find_gaps(series: Floats, seen: int, token_of: Ints, gaps: Ints) -> None:
    """Number of missing steps [token]; `seen` is how many are not, `token_of` the token of each step."""
    gaps[:] = 0
    if seen < len(series):
        for step in range(len(series)):
            if np.isnan(series[step]):
                gaps[token_of[step]] += 1


@compiled
def _pool(scaled: Floats, pools: Ints, gaps: Ints, slot: int, encoder: Floats) -> None:
    """Means of each token's steps that are not missing into a slot of [token, slot]."""
    start = 0
    for token in range(len(pools)):
        pool, total = pools[token], scaled[start]
        if 1 < pool < 8:  # as `_sum`, without a call
            rest = _ZERO
            for step in range(start + 1, start + pool):
                rest += scaled[step]
            total += rest
        elif pool > 1:
            total += _sum(scaled, start + 1, start + pool)
        encoder[token, slot] = total / np.float32(max(pool - gaps[token], 1))
        start += pool


@compiled
def _peaks(scaled: Floats, pools: Ints, slot: int, encoder: Floats) -> None:
    """The largest of each token's steps into a slot of [token, slot]."""
    start = 0
    for token in range(len(pools)):
        peak = scaled[start]
        for step in range(start + 1, start + pools[token]):
            peak = max(peak, scaled[step])
        encoder[token, slot] = peak
        start += pools[token]


@compiled
def _clipped(value: np.float32) -> np.float32:
    """Between the limits; 0 for a missing value."""
    value = _ZERO if np.isnan(value) else value
    value = _LIMIT if value > _LIMIT else value
    return np.float32(-_LIMIT if value < -_LIMIT else value)


@compiled
def normal(value: np.float32, center: np.float32, scale: np.float32) -> np.float32:
    """A value in scales from the center, between the limits; 0 for a missing one."""
    return _clipped((value - center) / scale)


@compiled
def put(series: Floats, pool: int, slot: int, decoder: Floats) -> None:
    """Means of `pool` steps each into a slot of [token, slot]."""
    for token in range(len(decoder)):
        decoder[token, slot] = _mean(series, token * pool, (token + 1) * pool)


@compiled
def _mean(values: Floats, low: int, high: int) -> np.float32:
    if high - low == 1:
        return np.float32(values[low])
    return np.float32((_ZERO + _sum(values, low, high)) / np.float32(high - low))


@compiled
def _sum(values: Floats, low: int, high: int) -> np.float32:
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
