"""Loops that fill the observed variables of the encoder, from samples with gaps.

Window i has its origin at `values[rows[i], ends[i]]` and `history[rows[i], origins[i]]`; steps outside of the time axis
are missing, and so is a metric whose column is -1. A slot is a variable's place on the last axis of a tensor.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled, compiled_and_kept
from fleetcast.windows.scaling import CLIP, RELATIVE_SCALE, SMALLEST_SCALE
from fleetcast.windows.series import copy_series
from fleetcast.windows.sums import CHAINS, pairwise_sum, sum_rows

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_ZERO = np.float32(0)
_LIMIT = np.float32(CLIP)
_RELATIVE = np.float32(RELATIVE_SCALE)
_SMALLEST = np.float32(SMALLEST_SCALE)


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
    scratch = np.zeros((-(-features // CHAINS) * CHAINS, length), np.float32)
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
    sum_rows(scratch, sums)
    for feature in range(features):
        scales[0, feature] = scales[2, feature] = np.float32(sums[feature] / max(np.float64(seen[feature]), 1.0))
    if negative:
        for feature in range(features):
            for step in range(length):
                scratch[feature, step] = abs(scratch[feature, step])
        sum_rows(scratch, sums)
        for feature in range(features):
            scales[2, feature] = np.float32(sums[feature] / max(np.float64(seen[feature]), 1.0))
    for feature in range(features):
        series, into, center = context[feature], scratch[feature], scales[0, feature]
        for step in range(length):
            square = (series[step] - center) * (series[step] - center)
            into[step] = _ZERO if np.isnan(square) else square
    sum_rows(scratch, sums)
    for feature in range(features):
        deviation = np.sqrt(np.float32(sums[feature] / max(np.float64(seen[feature]), 1.0)))
        scales[1, feature] = deviation + _RELATIVE * scales[2, feature] + _SMALLEST


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
        if 1 < pool < 8:  # as `pairwise_sum`, without a call
            rest = _ZERO
            for step in range(start + 1, start + pool):
                rest += scaled[step]
            total += rest
        elif pool > 1:
            total += pairwise_sum(scaled, start + 1, start + pool)
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
