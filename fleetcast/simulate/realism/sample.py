"""The statistics of `realism` for a sample of the servers of a dataset, read part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import QUANTILE_LEVELS, STEP_SECONDS, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import UsageError
from fleetcast.simulate.realism import statistics as realism
from fleetcast.simulate.realism.statistics import Floats

LEVELS = (0.001, *QUANTILE_LEVELS, 0.999)
LAGS = {"5min": 1, "1h": STEPS_PER_HOUR, "8h": 8 * STEPS_PER_HOUR, "24h": STEPS_PER_DAY, "168h": 7 * STEPS_PER_DAY}
CURVE_LAGS = 2 * STEPS_PER_DAY  # the autocorrelation is kept whole up to here
SCALARS = (
    "mean",
    "coverage",
    *(f"autocorrelation_{word}" for word in LAGS),
    "burstiness_level",
    "burstiness_waits",
    "increment_kurtosis",
    "increment_jumps",
    "peak_to_mean",
    "hour_of_day",
    "hour_of_week",
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MetricStatistics:
    """One metric of the sampled servers of one dataset; one row a server that has values.

    `quantiles` [server, LEVELS], `sketches` [server, POINTS] and `counts` [server] describe the level; `changes` is
    [server, POINTS], a sketch of |5-minute increment| / its standard deviation; `curve` [server, CURVE_LAGS + 1] is
    the autocorrelation; each of `scalars` has shape [server]. NaN where undefined; a constant server has only levels.
    """

    without: int
    constant: npt.NDArray[np.bool_]
    counts: Floats
    sketches: Floats
    quantiles: Floats
    changes: Floats
    curve: Floats
    scalars: dict[str, Floats]

    @property
    def spread(self) -> float:
        """Standard deviation of the servers' means divided by their mean; NaN where that is not above 0."""
        means = self.scalars["mean"]
        return float(means.std() / means.mean()) if len(means) and means.mean() > 0 else np.nan


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of a sample of servers: of each metric with a value, and `correlations` [server, metric, metric]."""

    dataset: Dataset
    sampled: int
    metrics: dict[str, MetricStatistics]
    correlations: Floats

    @property
    def days(self) -> float:
        """Length of the dataset's span."""
        return (self.dataset.manifest.end - self.dataset.manifest.start).total_seconds() / 86400

    def lacks(self, scalar: str) -> bool:
        """Whether no metric of any server has this statistic."""
        return all(bool(np.isnan(found.scalars[scalar]).all()) for found in self.metrics.values())


def sample_servers(dataset: Dataset, count: int, seed: int) -> list[str]:
    """At most `count` of the dataset's servers, sorted: the same for the same names, count and seed."""
    names = sorted(dataset.manifest.servers)
    if count < 1:
        raise UsageError(f"{count} servers: needed at least 1")
    if len(names) <= count:
        return names
    return sorted(np.random.default_rng(seed).choice(names, count, replace=False).tolist())


def describe(
    dataset: Dataset, metrics: Sequence[str], servers: Sequence[str], progress: Progress | None = None
) -> DatasetStatistics:
    """Statistics of these servers, read part by part: one part and what is kept of each server are in memory."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}
    correlations = []
    for number, (hours, values) in enumerate(_series(dataset, metrics, servers), start=1):
        for column, name in enumerate(metrics):
            if not np.isnan(values[:, column]).all():
                rows[name].append(_describe_series(values[:, column], hours))
        correlations.append(realism.correlation(values))
        if progress is not None:
            progress(number, len(servers))
    found = {name: _stack(rows[name], len(servers)) for name in metrics}
    return DatasetStatistics(dataset, len(servers), found, np.stack(correlations))


def _series(
    dataset: Dataset, metrics: Sequence[str], servers: Sequence[str]
) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """Of each server its local hours [time] and its values [time, metric] from its first sample to its last."""
    wanted = pa.array(servers)
    zone = ZoneInfo(dataset.manifest.timezone)
    for part in dataset.manifest.parts:
        names = sorted(set(part.servers) & set(servers))
        if names:
            table = dataset.read(part, ["server", "timestamp", *metrics])
            table = table.filter(pc.is_in(table["server"], value_set=wanted))
        for name in names:
            yield _lay_out(table.filter(pc.equal(table["server"], name)), metrics, zone)


def _lay_out(table: pa.Table, metrics: Sequence[str], zone: ZoneInfo) -> tuple[npt.NDArray[np.int64], Floats]:
    """One server's rows on the 5-minute grid by their time stamps; a gap is NaN."""
    seconds = np.asarray(pc.cast(pc.cast(table["timestamp"], TIMESTAMP), pa.int64()))
    steps = (seconds - seconds.min()) // STEP_SECONDS
    values = np.full((int(steps.max()) + 1, len(metrics)), np.nan)
    for column, name in enumerate(metrics):
        values[steps, column] = table[name].to_numpy()
    grid = pd.to_datetime(seconds.min() + STEP_SECONDS * np.arange(len(values)), unit="s", utc=True)
    local = grid.tz_convert(zone).tz_localize(None).to_numpy()
    return local.astype("datetime64[h]").astype(np.int64), values


def _describe_series(values: Floats, hours: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The fields of `MetricStatistics` for one server's series with at least one value."""
    constant = realism.is_constant(values)
    levels = {
        "constant": constant,
        "counts": float((~np.isnan(values)).sum()),
        "sketches": realism.sketch(values),
        "quantiles": np.nanquantile(values, LEVELS),
    }
    scalars = {"mean": float(np.nanmean(values)), "coverage": float((~np.isnan(values)).mean())}
    if constant:
        return {
            **levels,
            "changes": np.full(realism.POINTS, np.nan),
            "curve": np.full(CURVE_LAGS + 1, np.nan),
            **scalars,
        }
    curve = realism.autocorrelation(values, max(LAGS.values()))
    changes = realism.increments(values)
    moves = len(changes) > 1 and changes.std() > 0
    return {
        **levels,
        "changes": realism.sketch(np.abs(changes) / changes.std()) if moves else np.full(realism.POINTS, np.nan),
        "curve": curve[: CURVE_LAGS + 1],
        **scalars,
        **{f"autocorrelation_{word}": float(curve[lag]) for word, lag in LAGS.items()},
        "burstiness_level": realism.burstiness(values[~np.isnan(values)]),
        "burstiness_waits": realism.burstiness(realism.burst_waits(values)),
        "increment_kurtosis": realism.kurtosis(changes),
        "increment_jumps": realism.jump_share(changes),
        "peak_to_mean": realism.peak_to_mean(values),
        "hour_of_day": realism.seasonal_share(values, hours, 24),
        "hour_of_week": realism.seasonal_share(values, hours, 168),
    }


def _stack(rows: list[dict[str, Any]], sampled: int) -> MetricStatistics:
    """The servers' statistics as arrays; a scalar that a server lacks is NaN."""
    shapes = {
        "sketches": realism.POINTS,
        "quantiles": len(LEVELS),
        "changes": realism.POINTS,
        "curve": CURVE_LAGS + 1,
    }
    arrays = {name: np.array([row[name] for row in rows]).reshape(-1, size) for name, size in shapes.items()}
    return MetricStatistics(
        without=sampled - len(rows),
        constant=np.array([row["constant"] for row in rows], dtype=bool),
        counts=np.array([row["counts"] for row in rows], dtype=np.float64),
        scalars={name: np.array([row.get(name, np.nan) for row in rows], dtype=np.float64) for name in SCALARS},
        **arrays,
    )
