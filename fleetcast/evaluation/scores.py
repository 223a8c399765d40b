"""Sums of losses by server, metric and bucket of leads, from which every figure of a report is made.

Sums over origins are all that is kept, so that the memory of a backtest does not grow with the number of origins, and
servers stay apart, so that chunks of servers can be joined and servers resampled.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.evaluation.levels import at_levels, column_of
from fleetcast.evaluation.metrics import pinball, pit_counts

BANDS: dict[str, tuple[float, float]] = {"80": (0.1, 0.9), "96": (0.02, 0.98)}
BUCKET_EDGES = (STEPS_PER_HOUR // 2, 2 * STEPS_PER_HOUR, 4 * STEPS_PER_HOUR, 8 * STEPS_PER_HOUR, STEPS_PER_DAY)

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Truth:
    """What all forecasters are scored on; sums over the origins, [server, metric, ...].

    `points` and `weight` [..., bucket] are the number of scored steps (a sample came, and every forecaster had a
    forecast) and the sum of |truth| over them. `windows` [..., 1 + bucket] counts the origins with a scaled error, over
    the whole horizon first, then by bucket; `flat` those with points but no seasonal scale. `peaks` and `peak_weight`
    count the origins with a peak and sum it. `unscored` counts the steps with a sample that are left out.
    """

    points: Floats
    weight: Floats
    windows: Floats
    flat: Floats
    peaks: Floats
    peak_weight: Floats
    unscored: Floats


@dataclass(frozen=True)
class Scores:
    """Sums of one forecaster over the scored steps of all origins, [server, metric, ...].

    `pinball` [..., bucket, level]; `scaled` [..., 1 + bucket] sums over origins the mean error of the median over the
    seasonal scale; `inside` and `width` [..., band, bucket] are the steps within each of `bands_of(levels)` and the
    bands' widths; `pit` [..., bucket, level + 1] is the PIT histogram (see `metrics.pit_counts`); `peak` [..., level]
    is the pinball loss of the highest value of each window.
    """

    pinball: Floats
    scaled: Floats
    inside: Floats
    width: Floats
    pit: Floats
    peak: Floats


Sums = TypeVar("Sums", Truth, Scores)


def bucket_edges(horizon: int) -> tuple[int, ...]:
    """Last lead of each bucket: 30 min, 2 h, 4 h, 8 h, 24 h as far as they lie before the horizon, then the horizon."""
    return (*(edge for edge in BUCKET_EDGES if edge < horizon), horizon)


def bucket_names(horizon: int) -> list[str]:
    """What the buckets are called: `0-30 min`, `30 min-2 h`, ..."""
    ends = [_span(edge) for edge in bucket_edges(horizon)]
    return [f"{begin}-{end}" for begin, end in zip(["0", *ends[:-1]], ends, strict=True)]


def bands_of(levels: Sequence[float]) -> dict[str, tuple[int, int]]:
    """Columns of both ends of each band of `BANDS` that the levels allow."""
    found = {name: (column_of(levels, low), column_of(levels, high)) for name, (low, high) in BANDS.items()}
    return {name: (low, high) for name, (low, high) in found.items() if low is not None and high is not None}


def truth_sums(kept: Values, came: npt.NDArray[np.bool_], scale: Floats) -> Truth:
    """Sums of one origin: truth [server, metric, step] (NaN where not scored), where a sample came, seasonal scale."""
    known = ~np.isnan(kept)
    starts = _starts(kept.shape[-1])
    points = np.add.reduceat(known, starts, axis=-1, dtype=np.float64)
    weight = np.add.reduceat(np.where(known, np.abs(kept), 0.0), starts, axis=-1, dtype=np.float64)
    every = np.concatenate([points.sum(axis=-1, keepdims=True), points], axis=-1)
    scored = every[..., 0] > 0
    peak = np.where(scored, np.fmax.reduce(kept, axis=-1), 0.0)
    return Truth(
        points,
        weight,
        ((every > 0) & (scale > 0)[..., None]).astype(np.float64),
        (scored & ~(scale > 0)).astype(np.float64),
        scored.astype(np.float64),
        np.abs(peak).astype(np.float64),
        (came & ~known).sum(axis=-1).astype(np.float64),
    )


def score(kept: Values, quantiles: Values, levels: Sequence[float], scale: Floats) -> Scores:
    """Sums of one origin: truth as in `truth_sums`, quantiles [server, metric, step, level]."""
    known, starts = ~np.isnan(kept), _starts(kept.shape[-1])
    losses = np.where(known[..., None], pinball(kept, quantiles, levels), 0.0)
    median = at_levels(quantiles, levels, (0.5,))[..., 0]
    absolute = np.where(known, np.abs(kept.astype(np.float64) - median), 0.0)
    inside, width = [], []
    for first, last in bands_of(levels).values():
        low, high = quantiles[..., first], quantiles[..., last]
        inside.append(np.add.reduceat(known & (kept >= low) & (kept <= high), starts, axis=-1, dtype=np.float64))
        width.append(np.add.reduceat(np.where(known, high - low, 0.0), starts, axis=-1, dtype=np.float64))
    return Scores(
        np.add.reduceat(losses, starts, axis=-2),
        _scaled(absolute, known, scale, starts),
        _stack_bands(inside, (*kept.shape[:2], len(starts))),
        _stack_bands(width, (*kept.shape[:2], len(starts))),
        np.stack([pit_counts(kept[..., some], quantiles[..., some, :], levels) for some in _buckets(starts)], axis=2),
        _peak_loss(kept, known, quantiles, levels),
    )


def add(parts: Sequence[Sums]) -> Sums:
    """The sums of several origins of the same servers."""
    kind = type(parts[0])
    return kind(*(np.sum([getattr(part, field.name) for part in parts], axis=0) for field in fields(kind)))


def join(parts: Sequence[Sums]) -> Sums:
    """The sums of several chunks of servers, one after the other."""
    kind = type(parts[0])
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)))


def pick(sums: Sums, rows: npt.NDArray[np.integer]) -> Sums:
    """The sums of these servers, in this order."""
    return type(sums)(*(getattr(sums, field.name)[rows] for field in fields(sums)))


def _scaled(absolute: Floats, known: npt.NDArray[np.bool_], scale: Floats, starts: npt.NDArray[np.int64]) -> Floats:
    """Mean error over the horizon and by bucket over the scale, [server, metric, 1 + bucket]; 0 where there is none."""
    sums = np.add.reduceat(absolute, starts, axis=-1)
    counts = np.add.reduceat(known, starts, axis=-1, dtype=np.float64)
    sums = np.concatenate([sums.sum(axis=-1, keepdims=True), sums], axis=-1)
    counts = np.concatenate([counts.sum(axis=-1, keepdims=True), counts], axis=-1)
    divisor = counts * scale[..., None]
    return np.divide(sums, divisor, out=np.zeros_like(sums), where=(counts > 0) & (scale > 0)[..., None])


def _peak_loss(
    kept: Values, known: npt.NDArray[np.bool_], quantiles: Values, levels: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Pinball loss of the window's highest value, [server, metric, level].

    Of the same steps the highest of each quantile is its forecast: the quantile of the maximum when all steps move
    together (comonotone). Any other dependence has a higher one, since P(max <= x) <= min over steps of P(y <= x).
    """
    truth = np.fmax.reduce(kept, axis=-1)
    forecast = np.where(known[..., None], quantiles, -np.inf).max(axis=-2)
    scored = np.asarray(known.any(axis=-1))[..., None]
    return np.where(scored, pinball(truth, np.where(scored, forecast, 0.0), levels), 0.0)


def _starts(horizon: int) -> npt.NDArray[np.int64]:
    return np.array((0, *bucket_edges(horizon)[:-1]), dtype=np.int64)


def _buckets(starts: npt.NDArray[np.int64]) -> list[slice]:
    return [slice(first, last) for first, last in itertools.pairwise((*starts.tolist(), None))]


def _stack_bands(parts: list[Floats], shape: tuple[int, ...]) -> Floats:
    return np.stack(parts, axis=2) if parts else np.zeros((*shape[:2], 0, *shape[2:]))


def _span(steps: int) -> str:
    hours = steps / STEPS_PER_HOUR
    return f"{hours:g} h" if hours >= 1 and hours == round(hours, 2) else f"{steps * 60 // STEPS_PER_HOUR} min"
