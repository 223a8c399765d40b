"""The backtest: a model and its rivals forecast the same windows and are scored on the same points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fleetcast.errors import EvaluationError
from fleetcast.evaluation.levels import at_levels, checked_levels, column_of
from fleetcast.evaluation.metrics import seasonal_scale
from fleetcast.evaluation.protocol import Forecaster
from fleetcast.evaluation.rivals import rival_quantiles
from fleetcast.evaluation.scores import Scores, Truth, score, stack
from fleetcast.evaluation.splits import Window, rolling_windows
from fleetcast.forecast.table import NONE, ForecastArrays
from fleetcast.model.baselines import BASELINES, Baseline
from fleetcast.windows.arrays import FleetArrays

MODEL_NAME = "model"

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class BacktestResult:
    """All that a report is made of.

    `forecasts` are the model's, one a window, at the levels asked for; `scores` has the model first, then the rivals;
    `notes` says what a reader must know.
    """

    fleet: FleetArrays
    windows: tuple[Window, ...]
    stride: int
    levels: tuple[float, ...]
    forecasts: tuple[ForecastArrays, ...]
    truth: Truth
    scores: dict[str, Scores]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The target metrics."""
        return self.forecasts[0].metrics


def run_backtest(
    forecaster: Forecaster,
    fleet: FleetArrays,
    windows: int,
    stride: int,
    levels: Sequence[float] | None = None,
    progress: Progress | None = None,
    baselines: Mapping[str, Baseline] = BASELINES,
) -> BacktestResult:
    """Forecast and score the last `windows` origins at distance `stride` steps (see `rolling_windows`).

    The model and the rivals are given the fleet up to each origin and nothing else. A point is scored when a sample
    came and all of them had a forecast. `levels` are the quantiles to score, by default the model's; others are
    interpolated from the model's, while rivals make them directly. `progress` is called with (done, all) windows.

    Raises `LeakageError`, `EvaluationError` and `UsageError`.
    """
    manifest = forecaster.manifest
    own = checked_levels(manifest.levels)
    chosen = own if levels is None else checked_levels(levels)
    missing = [metric for metric in manifest.targets if metric not in fleet.metrics]
    if missing:
        raise EvaluationError(f"the data has no {', '.join(missing)}, which the model forecasts: use its kind of data")
    rolling = rolling_windows(fleet, manifest.horizon, windows, stride, manifest.cutoff)
    forecasts: list[ForecastArrays] = []
    truths: list[Truth] = []
    parts: dict[str, list[Scores]] = {name: [] for name in (MODEL_NAME, *baselines)}
    for number, window in enumerate(rolling):
        forecast = _model_forecast(forecaster, window, chosen)
        past = window.input().select(forecast.metrics).transpose(0, 2, 1)
        quantiles = {MODEL_NAME: forecast.quantiles}
        for name, baseline in baselines.items():
            quantiles[name] = rival_quantiles(baseline, past, manifest.horizon, chosen)
        truth, scored = _common_truth(past, window.truth(forecast.metrics), list(quantiles.values()))
        for name, found in quantiles.items():
            parts[name].append(score(scored, found, chosen))
        forecasts.append(forecast)
        truths.append(truth)
        if progress is not None:
            progress(number + 1, len(rolling))
    joined = Truth(
        *(np.stack([getattr(t, name) for t in truths]) for name in ("points", "weight", "scale", "unscored"))
    )
    scores = {name: stack(found) for name, found in parts.items()}
    notes = (*_level_notes(own, chosen), *_truth_notes(joined, forecasts))
    return BacktestResult(fleet, rolling, stride, chosen, tuple(forecasts), joined, scores, notes)


def _model_forecast(forecaster: Forecaster, window: Window, levels: Sequence[float]) -> ForecastArrays:
    """The model's forecast at the levels asked for, checked to be of this window."""
    past = window.input()
    forecast = forecaster.forecast(past, window.origin)
    asked = (past.servers, tuple(forecaster.manifest.targets), window.horizon, window.origin)
    answered = (forecast.servers, forecast.metrics, forecast.horizon, forecast.origin)
    for what, wanted, found in zip(("servers", "metrics", "horizon", "origin"), asked, answered, strict=True):
        if wanted != found:
            raise EvaluationError(f"the forecaster answered for other {what}: asked for {wanted}, found {found}")
    quantiles = at_levels(forecast.quantiles, forecast.levels, levels)
    return replace(forecast, levels=tuple(levels), quantiles=quantiles)


def _common_truth(past: Floats, truth: Floats, quantiles: Sequence[Floats]) -> tuple[Truth, Floats]:
    """What a window is scored on, and the truth with NaN at every point that is not scored."""
    came = ~np.isnan(truth)
    scored = came.copy()
    for found in quantiles:
        scored &= ~np.isnan(found).any(axis=-1)
    kept = np.where(scored, truth, np.float32(np.nan))
    sums = Truth(
        scored.sum(axis=-1).astype(np.float64),
        np.nansum(np.abs(kept), axis=-1, dtype=np.float64),
        seasonal_scale(past),
        (came & ~scored).sum(axis=-1).astype(np.float64),
    )
    return sums, kept


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


def _truth_notes(truth: Truth, forecasts: Sequence[ForecastArrays]) -> list[str]:
    notes = []
    if truth.unscored.any():
        none = sum(source == NONE for forecast in forecasts for source in forecast.sources)
        notes.append(
            f"{int(truth.unscored.sum()):,} points had a sample but not a forecast of every forecaster and are not "
            f"scored; the model gave none for {none} of {len(forecasts) * len(forecasts[0].servers)} server windows."
        )
    flat = int(((truth.points > 0) & ~(truth.scale > 0)).sum())
    if flat:
        notes.append(f"{flat} server windows have no seasonal scale (a flat or short past) and no MASE.")
    return notes
