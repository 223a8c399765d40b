"""The backtest: a model and its rivals forecast the same windows and are scored on the same points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fleetcast.errors import EvaluationError
from fleetcast.evaluation.levels import at_levels, checked_levels, column_of
from fleetcast.evaluation.metrics import seasonal_scale
from fleetcast.evaluation.protocol import Forecaster, Listener, Rival
from fleetcast.evaluation.rivals import UNTRAINED
from fleetcast.evaluation.scores import Scores, Truth, add, join, score, truth_sums
from fleetcast.evaluation.source import ArraysSource, FleetSource
from fleetcast.evaluation.splits import Origins, Window, rolling_origins
from fleetcast.forecast.table import FALLBACK, NONE, ForecastArrays
from fleetcast.windows.arrays import FleetArrays

MODEL_NAME = "model"

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BacktestResult:
    """All that a report is made of.

    `servers` and `profiles` are in the order of the first axis of `truth` and `scores`; `scores` has the model first,
    then the rivals; `sources` and `reasons` count server windows by where the model's forecast came from; `notes` says
    what a reader must know.
    """

    origins: Origins
    metrics: tuple[str, ...]
    levels: tuple[float, ...]
    servers: tuple[str, ...]
    profiles: tuple[str, ...]
    truth: Truth
    scores: dict[str, Scores]
    sources: dict[str, int]
    reasons: dict[str, int]
    notes: tuple[str, ...]

    @property
    def fallback_share(self) -> float:
        """Share of the model's forecasts (server windows that have one) that the fallback made."""
        made = sum(count for source, count in self.sources.items() if source != NONE)
        return self.sources.get(FALLBACK, 0) / made if made else 0.0


@dataclass
class _Tally:
    """What grows from chunk to chunk."""

    servers: list[str] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)
    scores: dict[str, list[Scores]] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


def run_backtest(
    forecaster: Forecaster,
    fleet: FleetArrays | FleetSource,
    windows: int | None,
    stride: int | None,
    levels: Sequence[float] | None = None,
    progress: Progress | None = None,
    rivals: Mapping[str, Rival] = UNTRAINED,
    purge: int | None = None,
    listeners: Sequence[Listener] = (),
) -> BacktestResult:
    """Forecast and score the last `windows` origins at distance `stride` steps (see `rolling_origins`).

    The model and the rivals are given the fleet up to each origin and nothing else. A point is scored when a sample
    came and all of them had a forecast. Servers are read, forecast and scored a chunk at a time; what is kept of them
    are sums. The figures do not depend on the chunks.

    Args:
        forecaster: the model.
        fleet: the data, in memory or read by chunks of servers.
        windows: number of origins; None is as many as fit.
        stride: steps between origins; None is the model's horizon.
        levels: quantile levels to score, by default the model's; others are interpolated from the model's, while rivals
            make them directly.
        progress: called with (done, all) servers.
        rivals: by name.
        purge: see `rolling_origins`.
        listeners: are given each chunk's forecasts.

    Raises `LeakageError`, `EvaluationError` and `UsageError`.
    """
    manifest = forecaster.manifest
    source = ArraysSource(fleet) if isinstance(fleet, FleetArrays) else fleet
    own = checked_levels(manifest.levels)
    chosen = own if levels is None else checked_levels(levels)
    missing = [metric for metric in manifest.targets if metric not in source.metrics]
    if missing:
        raise EvaluationError(f"the data has no {', '.join(missing)}, which the model forecasts: use its kind of data")
    origins = rolling_origins(source.start, source.steps, manifest.horizon, windows, stride, manifest.cutoff, purge)
    tally = _Tally(scores={name: [] for name in (MODEL_NAME, *rivals)})
    for chunk in source.chunks():
        forecasts = _score_chunk(forecaster, rivals, chunk, origins, chosen, tally)
        for listener in listeners:
            listener.add(chunk, forecasts)
        if progress is not None:
            progress(len(tally.servers), len(source.servers))
    truth = join(tally.truths)
    return BacktestResult(
        origins,
        tuple(manifest.targets),
        chosen,
        tuple(tally.servers),
        tuple(tally.profiles),
        truth,
        {name: join(parts) for name, parts in tally.scores.items()},
        dict(sorted(tally.sources.items())),
        dict(sorted(tally.reasons.items())),
        (*_level_notes(own, chosen), *_truth_notes(truth, tally.sources), *_overlap_notes(origins)),
    )


def model_forecast(forecaster: Forecaster, window: Window, levels: Sequence[float]) -> ForecastArrays:
    """The model's forecast at these levels, checked to be of this window; raises `EvaluationError`."""
    past = window.input()
    forecast = forecaster.forecast(past, window.origin)
    asked = (past.servers, tuple(forecaster.manifest.targets), window.horizon, window.origin)
    answered = (forecast.servers, forecast.metrics, forecast.horizon, forecast.origin)
    for what, wanted, found in zip(("servers", "metrics", "horizon", "origin"), asked, answered, strict=True):
        if wanted != found:
            raise EvaluationError(f"the forecaster answered for other {what}: asked for {wanted}, found {found}")
    quantiles = at_levels(forecast.quantiles, forecast.levels, levels)
    return replace(forecast, levels=tuple(levels), quantiles=quantiles)


def _score_chunk(
    forecaster: Forecaster,
    rivals: Mapping[str, Rival],
    chunk: FleetArrays,
    origins: Origins,
    levels: tuple[float, ...],
    tally: _Tally,
) -> list[ForecastArrays]:
    """Add the sums of a chunk of servers over all origins to the tally; returns the model's forecasts."""
    forecasts, truths = [], []
    parts: dict[str, list[Scores]] = {name: [] for name in tally.scores}
    for window in origins.windows(chunk):
        forecast = model_forecast(forecaster, window, levels)
        past = window.input()
        quantiles = {MODEL_NAME: forecast.quantiles}
        for name, rival in rivals.items():
            quantiles[name] = rival.quantiles(past, forecast.metrics, window.horizon, levels)
        truth = window.truth(forecast.metrics)
        scale = seasonal_scale(past.select(forecast.metrics).transpose(0, 2, 1))
        kept = _scored(truth, quantiles)
        truths.append(truth_sums(kept, ~np.isnan(truth), scale))
        for name, found in quantiles.items():
            parts[name].append(score(kept, found, levels, scale))
        forecasts.append(forecast)
        tally.sources.update(forecast.sources)
        tally.reasons.update(reason for reason in forecast.reasons if reason)
    tally.servers += chunk.servers
    tally.profiles += chunk.profiles
    tally.truths.append(add(truths))
    for name, found_parts in parts.items():
        tally.scores[name].append(add(found_parts))
    return forecasts


def _scored(truth: Floats, quantiles: Mapping[str, Floats]) -> Floats:
    """The truth with NaN at every point that some forecaster has no forecast of."""
    scored = ~np.isnan(truth)
    for name, found in quantiles.items():
        if found.shape[:3] != truth.shape:
            raise EvaluationError(f"{name} answered with shape {found.shape[:3]}, asked for {truth.shape}")
        scored &= ~np.isnan(found).any(axis=-1)
    return np.where(scored, truth, np.float32(np.nan))


def _level_notes(own: Sequence[float], chosen: Sequence[float]) -> list[str]:
    """Which of the levels asked for the model does not have, and what was done."""
    new = [level for level in chosen if column_of(own, level) is None]
    inside = [f"{level:g}" for level in new if own[0] < level < own[-1]]
    outside = [f"{level:g}" for level in new if not own[0] < level < own[-1]]
    has = ", ".join(f"{level:g}" for level in own)
    notes = []
    if inside:
        notes.append(f"The model has the levels {has}; its quantiles at {', '.join(inside)} are interpolated linearly.")
    if outside:
        notes.append(f"The model has the levels {has}; at {', '.join(outside)} its outermost quantile stands in.")
    return notes


def _truth_notes(truth: Truth, sources: Mapping[str, int]) -> list[str]:
    notes = []
    if truth.unscored.any():
        notes.append(
            f"{int(truth.unscored.sum()):,} points had a sample but not a forecast of every forecaster and are not "
            f"scored; the model gave none for {sources.get(NONE, 0)} of {sum(sources.values())} server windows."
        )
    if truth.flat.any():
        notes.append(
            f"{int(truth.flat.sum())} server windows have no seasonal scale (a flat or short past) and no MASE."
        )
    return notes


def _overlap_notes(origins: Origins) -> list[str]:
    if len(origins.positions) < 2 or origins.stride >= origins.horizon:
        return []
    return [f"Windows overlap: origins are {origins.stride} steps apart, the horizon is {origins.horizon}."]
