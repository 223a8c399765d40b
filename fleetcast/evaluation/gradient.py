"""A rival that learns: gradient-boosted trees, one global model for each metric and quantile level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.errors import EvaluationError
from fleetcast.evaluation.source import FleetSource
from fleetcast.model.base import ResidualBase
from fleetcast.model.floor import LEVEL_STEPS, forward_fill
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.spec import CYCLIC_CALENDAR

WINDOWS, LEADS = 20_000, 4  # windows that are learnt on, and leads drawn from each
DAYS = 7  # whose value at the lead's time of day is averaged
RECENT = 6  # last values
SPANS = (STEPS_PER_HOUR, 4 * STEPS_PER_HOUR, STEPS_PER_DAY)  # of mean, deviation, extremes
FLOOR_LEVELS = (0.1, 0.5, 0.9)
FLOOR_LEADS = 8  # as `WindowSpec.floor_leads`
PARAMETERS: dict[str, Any] = {
    "objective": "quantile",
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}
ROUNDS = 100

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GradientRival:
    """LightGBM (Ke et al., NeurIPS 2017) on features of the window and of the lead, fitted before a cutoff.

    It learns how far, in units of the last day's mean |y|, a value lies from the level of the last half hour. Features:
    the last values, mean, deviation, minimum and maximum over 1, 4 and 24 h, the residual floor's quantiles at the
    lead, the same time of day one and two days before and on average over seven, the calendar at the lead, the lead,
    the profile, level and scale.
    """

    boosters: dict[tuple[str, float], Any]

    @classmethod
    def fit(
        cls,
        source: FleetSource,
        metrics: Sequence[str],
        levels: Sequence[float],
        horizon: int,
        cutoff: datetime,
        windows: int = WINDOWS,
        rounds: int = ROUNDS,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> GradientRival:
        """Fit on random windows whose truth ends at the cutoff or before, as many of each server.

        Raises `EvaluationError` when no window lies before the cutoff.
        """
        last = (int(cutoff.timestamp()) - source.start) // STEP_SECONDS
        sample = _sample(source, metrics, horizon, last, windows, seed)
        boosters = {}
        for number, metric in enumerate(metrics):
            features, truth = sample[metric]
            data = lightgbm.Dataset(features, truth, free_raw_data=False, params={"verbosity": -1})
            for count, level in enumerate(levels):
                boosters[metric, level] = lightgbm.train({**PARAMETERS, "alpha": level, "seed": seed}, data, rounds)
                if progress is not None:
                    progress(number * len(levels) + count + 1, len(metrics) * len(levels))
        return cls(boosters)

    def quantiles(self, past: FleetArrays, metrics: Sequence[str], horizon: int, levels: Sequence[float]) -> Floats:
        """As `Rival`; metrics and levels must be those of the fit."""
        servers = len(past.servers)
        rows, leads = np.repeat(np.arange(servers), horizon), np.tile(np.arange(1, horizon + 1), servers)
        ends = np.full(len(rows), past.steps - 1)
        found = np.empty((servers, len(metrics), horizon, len(levels)), np.float32)
        for column, metric in enumerate(metrics):
            features, level, scale = _Features(past, metric, horizon).of(rows, ends, leads)
            for place, share in enumerate(levels):
                drawn = level + scale * self.boosters[metric, share].predict(features)
                found[:, column, :, place] = np.maximum(drawn, 0.0).reshape(servers, horizon)
        found[np.isnan(past.select(metrics)).all(axis=1)] = np.nan
        return np.sort(found, axis=-1)


class _Features:
    """Features of windows of one metric; nothing after a window's end is read but the calendar."""

    def __init__(self, fleet: FleetArrays, metric: str, horizon: int) -> None:
        values = fleet.select((metric,))
        self.fleet, self.horizon = fleet, horizon
        self.seen = ~np.isnan(values[:, :, 0])
        filled = forward_fill(values[:, :, 0])
        self.series = np.where(np.logical_or.accumulate(self.seen, axis=1), filled, np.float32(np.nan))
        self.base = ResidualBase(values, fleet.start, horizon, FLOOR_LEVELS, FLOOR_LEADS)

    def of(self, rows: Ints, ends: Ints, leads: Ints) -> tuple[Floats, Floats, Floats]:
        """Features [point, feature], level and scale [point] of leads of windows (rows[i], ends[i])."""
        windows, place = np.unique(np.stack([rows, ends]), axis=1, return_inverse=True)
        fixed, level, scale = self._of_windows(windows[0], windows[1])
        floor = self.base.at(windows[0], windows[1])[place.ravel(), leads - 1, 0]
        fixed, level, scale = fixed[place.ravel()], level[place.ravel()], scale[place.ravel()]
        back = STEPS_PER_DAY * np.arange(1, DAYS + 1)
        lags = self._at(rows[:, None], (ends + leads)[:, None] - back, ends[:, None])
        known = ~np.isnan(lags)
        mean = np.where(known, lags, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        mean[~known.any(axis=1)] = np.nan
        moving = np.column_stack([floor, lags[:, :2], mean])
        moments = self.fleet.start + STEP_SECONDS * (ends + leads)
        calendar = calendar_features(moments, self.fleet.timezone, CYCLIC_CALENDAR)
        scaled = (moving - level[:, None]) / scale[:, None]
        return np.column_stack([fixed, scaled, calendar, leads]).astype(np.float32), level, scale

    def truth(self, rows: Ints, ends: Ints, leads: Ints) -> Floats:
        """What came, NaN where no sample came."""
        at = ends + leads
        return np.where(self.seen[rows, at], self.series[rows, at], np.float32(np.nan))

    def _of_windows(self, rows: Ints, ends: Ints) -> tuple[Floats, Floats, Floats]:
        day = self._at(rows[:, None], ends[:, None] - np.arange(STEPS_PER_DAY), ends[:, None])  # latest first
        known = ~np.isnan(day)
        level = _median(day[:, :LEVEL_STEPS])
        scale = np.where(known, np.abs(day), 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        scale = (scale + 0.01 * np.abs(level) + 1e-6).astype(np.float32)
        parts = [day[:, :RECENT]]
        for span in SPANS:
            some, count = day[:, :span], np.maximum(known[:, :span].sum(axis=1), 1)
            mean = np.where(known[:, :span], some, 0).sum(axis=1) / count
            parts += [mean[:, None], np.fmin.reduce(some, axis=1)[:, None], np.fmax.reduce(some, axis=1)[:, None]]
            spread = np.sqrt(np.where(known[:, :span], (some - mean[:, None]) ** 2, 0).sum(axis=1) / count)
            parts.append((spread + level)[:, None])  # made relative to the level with the others
        scaled = (np.concatenate(parts, axis=1) - level[:, None]) / scale[:, None]
        profiles = self.fleet.profile_codes[rows]
        return np.column_stack([scaled, np.log(scale), level / scale, profiles]).astype(np.float32), level, scale

    def _at(self, rows: Ints, at: Ints, ends: Ints) -> Floats:
        """Values at steps; NaN before the first sample and after the window's end."""
        inside = (at >= 0) & (at <= ends)
        return np.where(inside, self.series[rows, np.clip(at, 0, self.series.shape[1] - 1)], np.float32(np.nan))


def _sample(
    source: FleetSource, metrics: Sequence[str], horizon: int, last: int, windows: int, seed: int
) -> dict[str, tuple[Floats, Floats]]:
    """Features and scaled truth of random windows and leads by metric; no step after `last` is read."""
    each, first = -(-windows // len(source.servers)), min(STEPS_PER_DAY, max(last - horizon, 0)) // 2
    parts: dict[str, list[tuple[Floats, Floats]]] = {metric: [] for metric in metrics}
    number = 0
    for chunk in source.chunks():
        known = chunk.until(last)
        if known.steps - horizon <= first:
            break
        drawn = [np.random.default_rng((seed, number + row)) for row in range(len(chunk.servers))]
        number += len(chunk.servers)
        rows = np.repeat(np.arange(len(chunk.servers)), each * LEADS)
        ends = np.concatenate([one.integers(first, known.steps - horizon, each).repeat(LEADS) for one in drawn])
        leads = np.concatenate([one.integers(1, horizon + 1, each * LEADS) for one in drawn])
        for metric in metrics:
            made = _Features(known, metric, horizon)
            features, level, scale = made.of(rows, ends, leads)
            truth = (made.truth(rows, ends, leads) - level) / scale
            usable = np.isfinite(truth)
            parts[metric].append((features[usable], truth[usable]))
    found = {
        metric: (np.concatenate([x for x, _ in some]), np.concatenate([y for _, y in some]))
        for metric, some in parts.items()
        if some
    }
    empty = [metric for metric in metrics if metric not in found or not len(found[metric][1])]
    if empty:
        raise EvaluationError(f"LightGBM has no window of {', '.join(empty)} before the cutoff: leave it out")
    return found


def _median(values: Floats) -> Floats:
    """Median along the last axis of what is not NaN; NaN where there is none."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = (~np.isnan(values)).sum(axis=1)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    pairs = np.take_along_axis(ordered, np.stack([low, np.minimum(high, values.shape[1] - 1)], axis=1), axis=1)
    return np.asarray(np.where(count > 0, pairs.mean(axis=1), np.nan), dtype=np.float32)
