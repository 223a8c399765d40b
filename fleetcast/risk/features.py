"""What a risk model reads of a server at an origin: the forecast against the limits, and the samples up to the origin.

Nothing else exists for it: no label, no latent state, nothing later than the origin. Every feature has a name made of
the metric and the fact, so that a model finds its inputs whatever metrics a fleet has; a missing one is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.thresholds import threshold_matrix
from fleetcast.contract.vocabulary import STEPS_PER_DAY, profile_codes
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.balance import balance, balance_names
from fleetcast.risk.probability import HORIZONS, incident_probabilities
from fleetcast.windows.arrays import FleetArrays

NOW_STEPS = 3
EDGES = (3, 6, 12, 24, 48, 96, 192, 288)  # steps back from the origin, between which blocks are averaged
TREND_STEPS = (12, 36, 96)
WAIT_STEPS = (3, 6, *TREND_STEPS)
SPREAD_STEPS = (12, 48, 288)
DAYS = (1, 2, 3, 7)
HISTORY_STEPS = max(DAYS) * STEPS_PER_DAY + NOW_STEPS
CHUNK = 512  # servers at a time
RAW_FLOOR = 1e-6
PEAK_LEVELS = (0.5, 0.9, 0.98)
CALM = "calm"
CALENDAR = ("profile", "hour", "weekday")
UPTIME = "uptime_seconds"
HEAVY = ("network_receive_bytes", "network_transmit_bytes", "tcp_close_wait", "major_page_faults", UPTIME)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """`values` is float32 [server, feature]; `rising` marks those that a higher forecast never lowers."""

    names: tuple[str, ...]
    values: Floats
    rising: npt.NDArray[np.bool_]

    def of_servers(self, rows: npt.NDArray[np.integer]) -> Features:
        """The features of these servers."""
        return Features(self.names, self.values[rows], self.rising)

    def select(self, names: Sequence[str]) -> Floats:
        """The features of these names [server, len(names)]; NaN for one that is not there."""
        found = np.full((len(self.values), len(names)), np.nan, np.float32)
        places = {name: place for place, name in enumerate(self.names)}
        for column, name in enumerate(names):
            if name in places:
                found[:, column] = self.values[:, places[name]]
        return found


def risk_features(fleet: FleetArrays, forecast: ForecastArrays, limits: npt.NDArray[np.floating]) -> Features:
    """Features of the forecast's servers; reads steps up to the forecast's origin only.

    `fleet` has the forecast's servers in its order; `limits` are the critical ones [server, forecast metric].
    """
    end = fleet.index_of(forecast.origin) + 1
    past = fleet.slice(end - HISTORY_STEPS, end)
    ahead_names, ahead = _ahead(forecast, limits, past)
    back_names, back = _back(past)
    values = np.concatenate([ahead, back, _known(fleet, forecast.origin)], axis=1)
    names = (*ahead_names, *back_names, *CALENDAR)
    rising = np.array([name.startswith("ahead_") for name in ahead_names] + [False] * (len(names) - len(ahead_names)))
    return Features(names, values, rising)


def _ahead(forecast: ForecastArrays, limits: npt.NDArray[np.floating], past: FleetArrays) -> tuple[list[str], Floats]:
    """Facts of the forecast; those called `ahead_` rise with it, those called `band_` are its width."""
    steps = [min(h, forecast.horizon) for h in HORIZONS.values()]
    raw = incident_probabilities(forecast.quantiles, forecast.levels, limits)
    odds = logit(np.clip(raw, RAW_FLOOR, 1 - RAW_FLOOR))
    levels = np.asarray(forecast.levels)
    columns = [int(np.abs(levels - wanted).argmin()) for wanted in PEAK_LEVELS]
    level = _mean(past.slice(past.steps - NOW_STEPS, past.steps).select(forecast.metrics))
    scale = np.where(np.isfinite(limits), limits, 1.0)
    names, found = [], []
    for place, (word, within) in enumerate(zip(HORIZONS, steps, strict=True)):
        names.append(f"ahead_most_odds_{word}")
        found.append(np.fmax.reduce(odds[:, :, place], axis=1))
        for metric in range(len(forecast.metrics)):
            name, paths = forecast.metrics[metric], forecast.quantiles[:, metric, :within]
            unit = scale[:, metric]
            peaks = [paths[:, :, column].max(axis=1) / unit for column in columns]
            names += [f"ahead_{name}_odds_{word}"] + [f"ahead_{name}_peak{q:g}_{word}" for q in PEAK_LEVELS]
            found += [odds[:, metric, place], *peaks]
            names += [f"ahead_{name}_rise_{word}", f"band_{name}_{word}"]
            found.append(paths[:, -1, columns[0]] / unit - level[:, metric] / unit)
            found.append((paths[:, -1, columns[1]] - paths[:, -1, columns[0]]) / unit)
    return names, np.stack(found, axis=1).astype(np.float32)


def _back(past: FleetArrays) -> tuple[list[str], Floats]:
    """Facts of the samples up to the origin, of every metric of the contract."""
    metrics = [name for name in METRIC_NAMES if name in past.metrics]
    names = [f"{metric}_{fact}" for metric in metrics for fact in _facts()] + balance_names(metrics) + [CALM]
    limits = threshold_matrix(metrics)[profile_codes(past.profiles)]
    order = [past.metrics.index(metric) for metric in metrics]
    parts: list[Floats] = []
    for first in range(0, len(past.servers), CHUNK):
        rows = slice(first, first + CHUNK)
        carried = np.ascontiguousarray(past.values[rows].transpose(2, 0, 1)[order])
        columns: list[npt.NDArray[np.float64]] = []
        for place, metric in enumerate(metrics):
            _carry(carried[place])
            columns += _facts_of(carried[place], limits[rows, place], metric in HEAVY)
        own = np.stack(columns, axis=1).astype(np.float32)
        parts.append(np.concatenate([own, balance(metrics, carried), _calm(carried, limits[rows])], axis=1))
    return names, np.concatenate(parts)


def _facts() -> list[str]:
    """Names of the facts, in the order of `_facts_of`."""
    return [
        "now", "step", "room",
        *(f"since_{far}" for _, far in pairwise(EDGES)),
        *(f"trend_{steps}" for steps in TREND_STEPS),
        *(f"wait_{steps}" for steps in WAIT_STEPS),
        *(f"spread_{steps}" for steps in SPREAD_STEPS),
        *(f"day_{day}" for day in DAYS), "usual", "unusual", "highest",
    ]  # fmt: skip


def _facts_of(week: Floats, limit: npt.NDArray[np.float64], heavy: bool) -> list[npt.NDArray[np.float64]]:
    """Facts of series [server, time] that end at the origin and have no gap after their first sample.

    Those of `heavy` metrics are facts of log(1 + value).
    """
    series = _scaled(week[:, -STEPS_PER_DAY:], heavy)
    limit = _scaled(limit, heavy)
    now, end = _mean(series[:, -NOW_STEPS:]), series.shape[1]
    room = np.where(np.isfinite(limit), limit - now, np.nan)
    since = [now - _mean(series[:, end - far : end - near]) for near, far in pairwise(EDGES)]
    slopes = [_slope(series[:, -steps:]) for steps in TREND_STEPS]
    spreads = [_deviation(series[:, -steps:]) for steps in SPREAD_STEPS]
    trends = [
        slope * steps / (spread + 1e-6) for slope, steps, spread in zip(slopes, TREND_STEPS, spreads, strict=True)
    ]
    steep = [_slope(series[:, -steps:]) for steps in WAIT_STEPS if steps not in TREND_STEPS] + slopes
    with np.errstate(divide="ignore", invalid="ignore"):
        waits = [np.where(slope > 1e-6, np.log1p(np.maximum(room, 0) / slope), 12.0) for slope in steep]
    days = []
    for day in DAYS:
        at = week.shape[1] - day * STEPS_PER_DAY
        days.append(now - _mean(_scaled(week[:, max(at - NOW_STEPS, 0) : at + NOW_STEPS], heavy)))
    like = np.stack(days, axis=1)
    usual = _mean(like)
    with np.errstate(all="ignore"):
        least = np.nanmin(np.where(np.isnan(like), np.inf, np.abs(like)), axis=1)
    unusual = np.where(np.isfinite(least), np.sign(usual) * least, np.nan) / (spreads[-1] + 1e-3)
    highest = np.fmax.reduce(series, axis=1) - now
    return [now, series[:, -1] - now, room, *since, *trends, *waits, *spreads, *days, usual, unusual, highest]


def _known(fleet: FleetArrays, origin: datetime) -> Floats:
    """Profile code, local hour and weekday, [server, 3]."""
    local = origin.astimezone(UTC).astimezone(ZoneInfo(fleet.timezone))
    clock = (local.hour + local.minute / 60, local.weekday())
    codes = fleet.profile_codes.astype(np.float32)
    return np.column_stack([codes, *(np.full(len(codes), one, np.float32) for one in clock)])


def _calm(values: Floats, limits: npt.NDArray[np.floating]) -> Floats:
    """Logarithm of the steps since any of `values` [metric, server, time] was critical, [server, 1].

    Where none was it is that of all steps; `limits` are [server, metric].
    """
    critical = np.asarray((values >= limits.T[:, :, None].astype(np.float32)).any(axis=0))
    since = np.where(critical.any(axis=1), critical[:, ::-1].argmax(axis=1), critical.shape[1])
    return np.asarray(np.log1p(since), np.float32)[:, None]


def _carry(series: Floats) -> None:
    """Carry the last value over the gaps of series [server, time], in place; NaN before the first."""
    gaps = np.isnan(series)
    rows = np.flatnonzero(gaps.any(axis=1))
    places = np.where(gaps[rows], 0, np.arange(series.shape[1]))
    series[rows] = np.take_along_axis(series[rows], np.maximum.accumulate(places, axis=1), axis=1)


def _scaled(values: npt.NDArray[np.floating], heavy: bool) -> npt.NDArray[np.float64]:
    exact = values.astype(np.float64)
    return np.log1p(np.maximum(exact, 0)) if heavy else exact


def _mean(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Mean over axis 1 of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=1, dtype=np.float64) / known.sum(axis=1))


def _deviation(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mean = _mean(values)
    return np.asarray(np.sqrt(_mean((values - mean[:, None]) ** 2)))


def _slope(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least-squares slope a step over axis 1; NaN where a value is missing."""
    time = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    return np.asarray(values @ time / (time @ time))
