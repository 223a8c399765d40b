"""The model against each rival: ratios by metric, their geometric mean, and how much of the way to the oracle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fleetcast.evaluation import bootstrap
from fleetcast.evaluation.backtest import MODEL_NAME
from fleetcast.evaluation.figures import Comparison, MetricRatio, Row
from fleetcast.evaluation.metrics import geometric_mean
from fleetcast.evaluation.rivals import LIMITS, ORACLE


def compare(rows: Sequence[Row], drawn: bootstrap.Resampled, metrics: Sequence[str]) -> list[Comparison]:
    """The model against every other forecaster of the rows, rivals and limits."""
    figures = {(row.forecaster, row.metric): row for row in rows}
    rivals = dict.fromkeys(row.forecaster for row in rows if row.forecaster != MODEL_NAME)
    return [_with_closed(_comparison(figures, drawn, rival, metrics), figures, metrics) for rival in rivals]


def best_rival(comparisons: Sequence[Comparison]) -> str | None:
    """The rival that the model is least ahead of in WQL."""
    known = [(item.wql_ratio, item.rival) for item in comparisons if item.wql_ratio is not None and not item.is_limit]
    return max(known)[1] if known else None


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """A quotient; None where a side does not exist or the denominator is 0."""
    if numerator is None or not denominator:
        return None
    return numerator / denominator


def _comparison(
    figures: dict[tuple[str, str], Row], drawn: bootstrap.Resampled, rival: str, metrics: Sequence[str]
) -> Comparison:
    wql, mase = drawn.wql_ratio(MODEL_NAME, rival), drawn.mase_ratio(MODEL_NAME, rival)
    by_metric = []
    for column, metric in enumerate(metrics):
        ours, theirs = figures[MODEL_NAME, metric], figures[rival, metric]
        by_metric.append(
            MetricRatio(
                metric=metric,
                wql_ratio=ratio(ours.wql, theirs.wql),
                wql_interval=bootstrap.interval(wql[:, column]),
                mase_ratio=ratio(ours.mase_mean, theirs.mase_mean),
                mase_interval=bootstrap.interval(mase[:, column]),
                peak_ratio=ratio(ours.peak_wql, theirs.peak_wql),
            )
        )
    return Comparison(
        rival=rival,
        is_limit=rival in LIMITS,
        wql_ratio=_mean_ratio([one.wql_ratio for one in by_metric]),
        wql_interval=bootstrap.interval(bootstrap.geometric(wql)),
        mase_ratio=_mean_ratio([one.mase_ratio for one in by_metric]),
        mase_interval=bootstrap.interval(bootstrap.geometric(mase)),
        peak_ratio=_mean_ratio([one.peak_ratio for one in by_metric]),
        metrics=by_metric,
    )


def _with_closed(found: Comparison, figures: dict[tuple[str, str], Row], metrics: Sequence[str]) -> Comparison:
    """With (rival - ours) / (rival - oracle), all in geometric means of WQL over the metrics."""
    if (ORACLE, metrics[0]) not in figures or found.is_limit or found.wql_ratio is None:
        return found
    best = _mean_ratio([ratio(figures[ORACLE, one].wql, figures[found.rival, one].wql) for one in metrics])
    if best is None or best >= 1:
        return found
    return found.model_copy(update={"closed": (1 - found.wql_ratio) / (1 - best)})


def _mean_ratio(ratios: Sequence[float | None]) -> float | None:
    """Geometric mean of the ratios that exist; None when there is none, or one is 0."""
    mean = geometric_mean([one for one in ratios if one is not None])
    return None if np.isnan(mean) else mean
