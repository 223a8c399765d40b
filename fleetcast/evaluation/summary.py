"""The figures of a backtest, metric by metric and never pooled over units."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydantic import BaseModel, Field

from fleetcast.evaluation.backtest import MODEL_NAME, BacktestResult
from fleetcast.evaluation.metrics import geometric_mean
from fleetcast.evaluation.scores import BANDS, Scores, Truth
from fleetcast.forecast.table import FALLBACK, NONE


class Row(BaseModel):
    """One forecaster on one metric; None where a figure does not exist."""

    metric: str
    forecaster: str
    wql: float | None = Field(description="weighted quantile loss")
    pinball: float | None = Field(description="mean pinball loss over points and levels, in the metric's unit")
    mase_mean: float | None = Field(description="mean over server windows")
    mase_median: float | None = Field(description="median over servers of their mean over windows")
    coverage_80: float | None = Field(description="share of points in [q0.1, q0.9]")
    coverage_96: float | None = Field(description="share of points in [q0.02, q0.98]")
    wql_ratio: float | None = Field(description="wql / that of the best rival")
    mase_ratio: float | None = Field(description="mase_mean / that of the best rival")
    fallback_share: float | None = Field(description="share of server windows forecast by the fallback; model only")
    pinball_by_level: dict[str, float | None]


class Scope(BaseModel):
    """What a metric was scored on."""

    metric: str
    servers: int = Field(description="servers with at least one scored point")
    points: int
    unscored: int = Field(description="points with a sample that not every forecaster had a forecast for")


class Comparison(BaseModel):
    """The model against one rival: geometric means over the metrics of the ratios model / rival."""

    rival: str
    wql_ratio: float | None
    mase_ratio: float | None


class BacktestReport(BaseModel):
    """All figures of a backtest."""

    windows: int
    stride: int
    horizon: int
    servers: int
    levels: list[float]
    origins: list[datetime]
    scopes: list[Scope]
    rows: list[Row] = Field(description="by metric; the model first, then the rivals")
    comparisons: list[Comparison]
    sources: dict[str, int] = Field(description="server windows by source of the model's forecast")
    reasons: dict[str, int] = Field(description="server windows by reason why the model did not forecast")
    notes: list[str]
    about: dict[str, str] = Field(default_factory=dict, description="which model and data, as the caller names them")

    def rows_of(self, metric: str) -> list[Row]:
        """The rows of one metric, model first."""
        return [row for row in self.rows if row.metric == metric]


def summarise(result: BacktestResult, about: dict[str, str] | None = None) -> BacktestReport:
    """The figures of a backtest. `about` names the model and the data."""
    sources = [source for forecast in result.forecasts for source in forecast.sources]
    reasons = [reason for forecast in result.forecasts for reason in forecast.reasons if reason]
    rows = [row for column in range(len(result.metrics)) for row in _metric_rows(result, column)]
    return BacktestReport(
        windows=len(result.windows),
        stride=result.stride,
        horizon=result.windows[0].horizon,
        servers=len(result.fleet.servers),
        levels=list(result.levels),
        origins=[window.origin for window in result.windows],
        scopes=[_scope(result.truth, metric, column) for column, metric in enumerate(result.metrics)],
        rows=rows,
        comparisons=_comparisons(rows),
        sources={name: sources.count(name) for name in sorted(set(sources))},
        reasons={name: reasons.count(name) for name in sorted(set(reasons))},
        notes=list(result.notes),
        about=about or {},
    )


def _scope(truth: Truth, metric: str, column: int) -> Scope:
    points = truth.points[:, :, column]
    return Scope(
        metric=metric,
        servers=int((points.sum(axis=0) > 0).sum()),
        points=int(points.sum()),
        unscored=int(truth.unscored[:, :, column].sum()),
    )


def _metric_rows(result: BacktestResult, column: int) -> list[Row]:
    """The rows of one metric, with the ratios to the best rival."""
    rows = [_row(result, name, scores, column) for name, scores in result.scores.items()]
    rivals = [row for row in rows if row.forecaster != MODEL_NAME]
    best_wql = min((row.wql for row in rivals if row.wql is not None), default=None)
    best_mase = min((row.mase_mean for row in rivals if row.mase_mean is not None), default=None)
    ratios = [{"wql_ratio": _ratio(row.wql, best_wql), "mase_ratio": _ratio(row.mase_mean, best_mase)} for row in rows]
    return [row.model_copy(update=ratio) for row, ratio in zip(rows, ratios, strict=True)]


def _row(result: BacktestResult, name: str, scores: Scores, column: int) -> Row:
    truth, levels = result.truth, result.levels
    points = truth.points[:, :, column]
    by_level = scores.pinball[:, :, column].sum(axis=(0, 1))
    mase_mean, mase_median = _mase(scores.absolute[:, :, column], points, truth.scale[:, :, column])
    bands = {
        f"coverage_{band}": _ratio(float(scores.covered[band][:, :, column].sum()), float(points.sum()))
        if band in scores.covered
        else None
        for band in BANDS
    }
    return Row(
        metric=result.metrics[column],
        forecaster=name,
        wql=_ratio(2.0 * float(by_level.sum()), len(levels) * float(truth.weight[:, :, column].sum())),
        pinball=_ratio(float(by_level.sum()), len(levels) * float(points.sum())),
        mase_mean=mase_mean,
        mase_median=mase_median,
        **bands,
        wql_ratio=None,
        mase_ratio=None,
        fallback_share=_fallback_share(result) if name == MODEL_NAME else None,
        pinball_by_level={
            f"{level:g}": _ratio(float(loss), float(points.sum())) for level, loss in zip(levels, by_level, strict=True)
        },
    )


def _mase(
    absolute: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    points: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    scale: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> tuple[float | None, float | None]:
    """Mean over (window, server) and median over servers of their mean over windows; all [window, server]."""
    usable = (points > 0) & (scale > 0)
    if not usable.any():
        return None, None
    errors = np.divide(absolute, points * scale, out=np.zeros_like(absolute), where=usable)
    counts = usable.sum(axis=0)
    means = errors.sum(axis=0)[counts > 0] / counts[counts > 0]
    return float(errors[usable].mean()), float(np.median(means))


def _fallback_share(result: BacktestResult) -> float:
    """Share of the model's forecasts (server windows that have one) that the fallback made."""
    made = [source for forecast in result.forecasts for source in forecast.sources if source != NONE]
    return made.count(FALLBACK) / len(made) if made else 0.0


def _comparisons(rows: list[Row]) -> list[Comparison]:
    figures = {(row.forecaster, row.metric): row for row in rows}
    metrics = dict.fromkeys(row.metric for row in rows)
    rivals = dict.fromkeys(row.forecaster for row in rows if row.forecaster != MODEL_NAME)
    found = []
    for rival in rivals:
        pairs = [(figures[MODEL_NAME, metric], figures[rival, metric]) for metric in metrics]
        found.append(
            Comparison(
                rival=rival,
                wql_ratio=_mean_ratio([_ratio(ours.wql, theirs.wql) for ours, theirs in pairs]),
                mase_ratio=_mean_ratio([_ratio(ours.mase_mean, theirs.mase_mean) for ours, theirs in pairs]),
            )
        )
    return found


def _mean_ratio(ratios: list[float | None]) -> float | None:
    """Geometric mean of the ratios that exist; None when there is none, or one is 0."""
    mean = geometric_mean([ratio for ratio in ratios if ratio is not None])
    return None if np.isnan(mean) else mean


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    if numerator is None or not denominator:
        return None
    return numerator / denominator
