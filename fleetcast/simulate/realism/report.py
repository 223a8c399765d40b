"""How alike two datasets are: the statistics of both beside each other, as one result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.contract.metrics import in_contract_order, metric
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import UsageError
from fleetcast.simulate.realism.sample import (
    LAGS,
    LEVELS,
    SCALARS,
    DatasetStatistics,
    MetricStatistics,
    Progress,
    describe,
    sample_servers,
)
from fleetcast.simulate.realism.statistics import Floats, ks_distance, pooled_quantiles, quartiles

SPANS_APART = 1.5  # from this ratio of the spans on, a note says what depends on the length


@dataclass(frozen=True)
class Comparison:
    """The statistics of two datasets for the metrics that both have, in the contract's order."""

    a: DatasetStatistics
    b: DatasetStatistics
    metrics: tuple[str, ...]
    seed: int

    def summary(self) -> dict[str, Any]:
        """The result for JSON: no NaN, null where a statistic is undefined, and `notes` that say what was left out."""
        return {
            "a": _about(self.a),
            "b": _about(self.b),
            "seed": self.seed,
            "metrics": {
                name: {
                    "unit": metric(name).unit,
                    "a": metric_summary(self.a.metrics[name]),
                    "b": metric_summary(self.b.metrics[name]),
                    "difference": _difference(self.a.metrics[name], self.b.metrics[name]),
                }
                for name in self.metrics
            },
            "correlation": self._correlation(),
            "only_in_a": _missing(self.a, self.b),
            "only_in_b": _missing(self.b, self.a),
            "notes": list(self._notes()),
        }

    def _correlation(self) -> dict[str, Any]:
        a, b = (quartiles(side.correlations)[1] for side in (self.a, self.b))
        apart = np.abs(a - b)[np.tril_indices(len(self.metrics), -1)]
        apart = apart[~np.isnan(apart)]
        return {
            "metrics": list(self.metrics),
            "a": plain(a),
            "b": plain(b),
            "servers_a": (~np.isnan(self.a.correlations)).sum(axis=0).tolist(),
            "servers_b": (~np.isnan(self.b.correlations)).sum(axis=0).tolist(),
            "difference": plain(apart.mean()) if len(apart) else None,
        }

    def _notes(self) -> Iterator[str]:
        for word, side in (("A", self.a), ("B", self.b)):
            for name, found in side.metrics.items():
                if found.constant.any():
                    count = f"{found.constant.sum()} of {side.sampled} servers"
                    yield f"{word}: {name} is constant on {count}: they count in its quantiles and means only"
                if found.without:
                    yield f"{word}: {name} has no value on {found.without} of {side.sampled} servers"
            undefined = [name for name in SCALARS if side.lacks(name)]
            if undefined:
                yield f"{word}: the series are too short or too even for {', '.join(undefined)}"
        if max(self.a.days, self.b.days) > SPANS_APART * min(self.a.days, self.b.days):
            yield (
                f"the spans differ (A {self.a.days:.1f}, B {self.b.days:.1f} days): the longer has more room for trends"
                " and rare events, which change autocorrelation at long lags, tails and kurtosis"
            )


def compare_datasets(
    a: Dataset, b: Dataset, servers: int = 200, seed: int = 0, progress: Progress | None = None
) -> Comparison:
    """Compare at most `servers` servers of each; `progress` gets the servers done and the servers to do.

    Raises `UsageError` when they have no metric in common, `IncompatibleError` for another contract.
    """
    metrics = shared_metrics(a, b)
    chosen = [sample_servers(dataset, servers, seed) for dataset in (a, b)]
    total = len(chosen[0]) + len(chosen[1])

    def report(before: int) -> Progress:
        return lambda done, _: None if progress is None else progress(before + done, total)

    return Comparison(
        describe(a, metrics, chosen[0], report(0)),
        describe(b, metrics, chosen[1], report(len(chosen[0]))),
        metrics,
        seed,
    )


def shared_metrics(a: Dataset, b: Dataset) -> tuple[str, ...]:
    """The metrics that both have. Raises `UsageError` when there is none, `IncompatibleError` for another contract."""
    sides = [dataset.manifest.side(f"the dataset {dataset.location}") for dataset in (a, b)]
    for side in sides:
        require_fit(this_contract(()), side)
    shared = in_contract_order(set(sides[0].metrics) & set(sides[1].metrics))
    if not shared:
        has = "; ".join(f"{side.name} has {', '.join(side.metrics)}" for side in sides)
        raise UsageError(f"no common metric: {has}")
    return shared


def metric_summary(found: MetricStatistics) -> dict[str, Any]:
    """One metric of one dataset; each `spread` is over the servers where the statistic is defined."""
    scalars = {name: spread(values) for name, values in found.scalars.items()}
    some = len(found.counts) > 0
    return {
        "servers": {
            "with_values": len(found.counts),
            "without_values": found.without,
            "constant": int(found.constant.sum()),
        },
        "coverage": scalars["coverage"],
        "quantiles": {
            "levels": list(LEVELS),
            "pooled": plain(pooled_quantiles(found.sketches, found.counts, LEVELS)) if some else None,
            "median_server": plain(quartiles(found.quantiles)[1]),
        },
        "mean": {**scalars["mean"], "between_servers": plain(found.spread)},
        "autocorrelation": {word: scalars[f"autocorrelation_{word}"] for word in LAGS},
        "burstiness": {
            "level": scalars["burstiness_level"],
            "waits": scalars["burstiness_waits"],
            "increment_kurtosis": scalars["increment_kurtosis"],
            "increment_jumps": scalars["increment_jumps"],
            "peak_to_mean": scalars["peak_to_mean"],
        },
        "seasonality": {"hour_of_day": scalars["hour_of_day"], "hour_of_week": scalars["hour_of_week"]},
    }


def spread(values: Floats) -> dict[str, Any]:
    """Median and quartiles over the servers where the statistic is defined, and how many those are."""
    low, middle, high = plain(quartiles(values))
    return {"median": middle, "q25": low, "q75": high, "servers": int((~np.isnan(values)).sum())}


def plain(values: Any) -> Any:
    """An array or number as JSON takes it: lists, and None for NaN."""
    if isinstance(values, np.ndarray):
        return [plain(value) for value in values]
    return None if np.isnan(values) else float(values)


def _difference(a: MetricStatistics, b: MetricStatistics) -> dict[str, Any]:
    """Kolmogorov-Smirnov distance of the marginals; mean |a - b| of the median autocorrelations up to 48 h."""
    both = len(a.counts) > 0 and len(b.counts) > 0
    curves = np.abs(quartiles(a.curve)[1] - quartiles(b.curve)[1])
    known = curves[~np.isnan(curves)]
    return {
        "marginal_ks": ks_distance(a.sketches, a.counts, b.sketches, b.counts) if both else None,
        "autocorrelation": plain(known.mean()) if len(known) else None,
    }


def _about(side: DatasetStatistics) -> dict[str, Any]:
    manifest = side.dataset.manifest
    return {
        "dataset": side.dataset.location,
        "fingerprint": manifest.fingerprint,
        "servers": len(manifest.servers),
        "sampled": side.sampled,
        "start": manifest.start.isoformat(),
        "end": manifest.end.isoformat(),
        "days": round(side.days, 3),
    }


def _missing(one: DatasetStatistics, other: DatasetStatistics) -> list[str]:
    """Metrics of `one` that `other` lacks."""
    return [name for name in one.dataset.manifest.metrics if name not in other.dataset.manifest.metrics]
