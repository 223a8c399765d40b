"""The figures of a backtest, metric by metric and never pooled over units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fleetcast.evaluation import bootstrap
from fleetcast.evaluation.backtest import MODEL_NAME, BacktestResult
from fleetcast.evaluation.comparison import best_rival, compare, ratio
from fleetcast.evaluation.figures import BacktestReport, Figures, Row, Scope, Section, Slice
from fleetcast.evaluation.metrics import pit_shares
from fleetcast.evaluation.rivals import LIMITS
from fleetcast.evaluation.scores import bands_of, bucket_names, pick

Rows = npt.NDArray[np.bool_]
Kind = TypeVar("Kind", bound=Figures)


def summarise(
    result: BacktestResult,
    about: dict[str, str] | None = None,
    seen: Rows | None = None,
    fingerprint: str = "",
    sections: Sequence[Section] = (),
) -> BacktestReport:
    """The figures of a backtest; they do not depend on the order of the servers.

    `about` names the model and the data; `seen` [server] says which servers training saw, None where it is not known;
    `sections` are what other scorings add.
    """
    result, seen = _in_order(result, seen)
    drawn = _resampled(result)
    rows = [row for column in range(len(result.metrics)) for row in _metric_rows(result, column, drawn)]
    comparisons = compare(rows, drawn, result.metrics)
    return BacktestReport(
        windows=len(result.origins.positions),
        stride=result.origins.stride,
        horizon=result.origins.horizon,
        purge=result.origins.purge,
        servers=len(result.servers),
        levels=list(result.levels),
        origins=list(result.origins.times),
        scopes=[_scope(result, metric, column) for column, metric in enumerate(result.metrics)],
        rows=rows,
        slices=_slices(result, seen),
        comparisons=comparisons,
        best_rival=best_rival(comparisons),
        unseen_share=None if seen is None else float((~seen).mean()),
        pit_expected=pit_shares(result.levels).tolist(),
        sources=result.sources,
        reasons=result.reasons,
        notes=list(result.notes),
        about=about or {},
        fingerprint=fingerprint,
        sections=list(sections),
    )


def _in_order(result: BacktestResult, seen: Rows | None) -> tuple[BacktestResult, Rows | None]:
    """The servers by name: sums are then rounded alike and the bootstrap draws the same servers."""
    order = np.argsort(np.array(result.servers, dtype=object), kind="stable")
    ordered = replace(
        result,
        servers=tuple(result.servers[row] for row in order),
        profiles=tuple(result.profiles[row] for row in order),
        truth=pick(result.truth, order),
        scores={name: pick(scores, order) for name, scores in result.scores.items()},
    )
    return ordered, None if seen is None else seen[order]


def _resampled(result: BacktestResult) -> bootstrap.Resampled:
    return bootstrap.resample(
        {name: scores.pinball.sum(axis=(2, 3)) for name, scores in result.scores.items()},
        {name: scores.scaled[:, :, 0] for name, scores in result.scores.items()},
        result.truth.weight.sum(axis=2),
        result.truth.windows[:, :, 0],
    )


def _scope(result: BacktestResult, metric: str, column: int) -> Scope:
    points = result.truth.points[:, column].sum(axis=1)
    return Scope(
        metric=metric,
        servers=int((points > 0).sum()),
        points=int(points.sum()),
        unscored=int(result.truth.unscored[:, column].sum()),
    )


def _metric_rows(result: BacktestResult, column: int, drawn: bootstrap.Resampled) -> list[Row]:
    """The rows of one metric, with intervals and the ratios to the best rival."""
    return _with_ratios([_row(result, name, column, drawn) for name in result.scores])


def _with_ratios(rows: list[Kind]) -> list[Kind]:
    figures = {"wql_ratio": "wql", "mase_ratio": "mase_mean", "peak_ratio": "peak_wql"}
    ratios = {name: _ratios_to_best(rows, figure) for name, figure in figures.items()}
    return [row.model_copy(update={name: found[at] for name, found in ratios.items()}) for at, row in enumerate(rows)]


def _ratios_to_best(rows: Sequence[Figures], figure: str) -> list[float | None]:
    """Each row's figure over the best rival's; a limit is no rival."""
    values: list[float | None] = [getattr(row, figure) for row in rows]
    others = {MODEL_NAME, *LIMITS}
    rivals = [value for row, value in zip(rows, values, strict=True) if row.forecaster not in others]
    best = min((value for value in rivals if value is not None), default=None)
    return [ratio(value, best) for value in values]


def _row(result: BacktestResult, name: str, column: int, drawn: bootstrap.Resampled) -> Row:
    return Row(
        **_figures(result, name, column),
        wql_interval=bootstrap.interval(drawn.wql(name, len(result.levels))[:, column]),
        mase_interval=bootstrap.interval(drawn.mase(name)[:, column]),
        fallback_share=result.fallback_share if name == MODEL_NAME else None,
    )


def _by_level(levels: Sequence[float], sums: npt.NDArray[np.float64], count: float) -> dict[str, float | None]:
    return {f"{level:g}": ratio(float(loss), count) for level, loss in zip(levels, sums, strict=True)}


def _slices(result: BacktestResult, seen: Rows | None) -> list[Slice]:
    """Every forecaster by profile, by bucket of leads, and, where both occur, by servers seen in training or not."""
    profiles = np.array(result.profiles, dtype=object)
    groups: list[tuple[str, str, Rows | None, int | None]] = [
        ("profile", name, np.asarray(profiles == name), None) for name in sorted(set(result.profiles))
    ]
    groups += [("lead", name, None, bucket) for bucket, name in enumerate(bucket_names(result.origins.horizon))]
    if seen is not None and seen.any() and not seen.all():
        groups += [("servers", "seen in training", seen, None), ("servers", "unseen", ~seen, None)]
    found: list[Slice] = []
    for axis, group, rows, bucket in groups:
        for column in range(len(result.metrics)):
            made = [
                Slice(axis=axis, name=group, **_figures(result, name, column, rows, bucket)) for name in result.scores
            ]
            found += _with_ratios(made)
    return found


def _figures(
    result: BacktestResult, name: str, column: int, rows: Rows | None = None, bucket: int | None = None
) -> dict[str, Any]:
    """The fields of `Figures` for some servers (None is all) and a bucket of leads (None is all)."""
    truth, scores, levels = result.truth, result.scores[name], result.levels
    chosen = np.ones(len(result.servers), bool) if rows is None else rows
    buckets = slice(None) if bucket is None else slice(bucket, bucket + 1)
    points = float(truth.points[chosen, column, buckets].sum())
    losses = scores.pinball[chosen, column, buckets].sum(axis=(0, 1))
    weight = len(levels) * float(truth.weight[chosen, column, buckets].sum())
    place = 0 if bucket is None else bucket + 1
    mean, median = _mase(scores.scaled[chosen, column, place], truth.windows[chosen, column, place])
    bands: dict[str, float | None] = {"coverage_80": None, "coverage_96": None, "width_80": None, "width_96": None}
    for number, band in enumerate(bands_of(levels)):
        bands[f"coverage_{band}"] = ratio(float(scores.inside[chosen, column, number, buckets].sum()), points)
        bands[f"width_{band}"] = ratio(float(scores.width[chosen, column, number, buckets].sum()), points)
    pit = scores.pit[chosen, column, buckets].sum(axis=(0, 1))
    return {
        "metric": result.metrics[column],
        "forecaster": name,
        "points": int(points),
        "wql": ratio(2.0 * float(losses.sum()), weight),
        "pinball": ratio(float(losses.sum()), len(levels) * points),
        "pinball_by_level": _by_level(levels, losses, points),
        "mase_mean": mean,
        "mase_median": median,
        **bands,
        "pit": (pit / pit.sum()).tolist() if pit.sum() else None,
        **_peaks(result, name, column, chosen if bucket is None else np.zeros_like(chosen)),
    }


def _peaks(result: BacktestResult, name: str, column: int, chosen: Rows) -> dict[str, Any]:
    """The figures of the peak over the horizon, None where no server is chosen."""
    truth, levels = result.truth, result.levels
    losses = result.scores[name].peak[chosen, column].sum(axis=0)
    count = float(truth.peaks[chosen, column].sum())
    return {
        "peak_wql": ratio(2.0 * float(losses.sum()), len(levels) * float(truth.peak_weight[chosen, column].sum())),
        "peak_pinball": ratio(float(losses.sum()), len(levels) * count),
        "peak_pinball_by_level": _by_level(levels, losses, count),
    }


def _mase(scaled: npt.NDArray[np.float64], windows: npt.NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Mean over server windows, and median over servers of their mean over windows; both arrays [server]."""
    usable = windows > 0
    if not usable.any():
        return None, None
    return float(scaled.sum() / windows.sum()), float(np.median(scaled[usable] / windows[usable]))
