"""From a forecast and the samples before it to calibrated probabilities: the fitted model, or the line where it is not.

    line      calibrated exceedance of the forecast (`risk.probability`, `risk.calibration`), by metric and server
    fitted    the risk model (`risk.model`) on the forecast and the samples up to its origin

Where a fitted model exists for a horizon it speaks, but never says less than the line once that is above `SURE`: the
forecast alone can raise any level. The result never falls with the horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.forecast.table import NONE, ForecastArrays
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.features import Features, risk_features
from fleetcast.risk.model import RiskModel
from fleetcast.risk.probability import HORIZONS, incident_probabilities
from fleetcast.risk.spread import Dependencies, spread_all, struck_for
from fleetcast.windows.arrays import FleetArrays

SURE = 0.5
EXPLAINED = 0.1  # from this P(8 h) on the model's own contributions say which metric drives
Source = Literal["line", "fitted"]

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """Probabilities of an incident, in the order of `HORIZONS`; NaN where nothing can be said.

    `server` is [server, horizon]; `metric` is [server, metric, horizon], the largest of a server's metrics being the
    server's own; `source` says what made each horizon's; `struck` are steps since each server became critical (NaN: it
    did not).
    """

    server: Doubles
    metric: Doubles
    source: tuple[Source, ...]
    struck: Doubles


def judge(
    forecast: ForecastArrays,
    limits: npt.NDArray[np.floating],
    calibration: Calibration | None = None,
    model: RiskModel | None = None,
    fleet: FleetArrays | None = None,
    topology: pa.Table | None = None,
) -> Judgement:
    """Probabilities of every server of a forecast.

    Args:
        forecast: quantiles of servers and metrics.
        limits: critical limits [server, metric].
        calibration: the lines; None leaves the exceedance as it is.
        model: the fitted model, which reads `fleet`.
        fleet: samples of the forecast's servers in its order; only steps up to the origin are read.
        topology: who depends on whom (schema `TOPOLOGY`), for what comes from upstream; with a fitted model only.
            Servers judged a chunk at a time get it afterwards, all together (`from_upstream`).
    """
    line = _line(forecast, limits, calibration)
    with_line = np.fmax.reduce(line, axis=1)
    sources: list[Source] = ["line"] * len(HORIZONS)
    struck = np.full(len(with_line), np.nan)
    if fleet is not None and len(forecast.servers):
        struck = struck_for(fleet.until(fleet.index_of(forecast.origin)), forecast.metrics, limits)
    if model is None or fleet is None or not len(forecast.servers):
        return Judgement(with_line, line, tuple(sources), struck)
    features = risk_features(fleet, forecast, limits)
    fitted = model.probabilities(features)
    made = np.isfinite(with_line[:, -1])
    server = with_line.copy()
    for place, name in enumerate(HORIZONS):
        if name in model.horizons:
            sources[place] = "fitted"
            sure = with_line[:, place] > SURE
            joined = np.where(sure, np.fmax(fitted[:, place], with_line[:, place]), fitted[:, place])
            server[:, place] = np.where(made, joined, np.nan)
    server = np.maximum.accumulate(server, axis=1)
    shares = _shares(line, server, model, features, forecast.metrics)
    judged = Judgement(server, server[:, None] * shares, tuple(sources), struck)
    return from_upstream(judged, forecast.servers, calibration, topology)


def from_upstream(
    judged: Judgement, servers: Sequence[str], calibration: Calibration | None, topology: pa.Table | None
) -> Judgement:
    """The same with what comes from upstream, where a fitted model speaks and the topology is known.

    `servers` are those judged, in order; dependencies on others are left out.
    """
    if calibration is None or topology is None or not calibration.spread or "fitted" not in judged.source:
        return judged
    server = spread_all(judged.server, judged.struck, Dependencies(servers, topology), calibration.spread)
    with np.errstate(invalid="ignore", divide="ignore"):
        raised = np.where(judged.server > 0, server / judged.server, 1.0)
    return replace(judged, server=server, metric=np.minimum(judged.metric * raised[:, None], 1.0))


def _line(forecast: ForecastArrays, limits: npt.NDArray[np.floating], calibration: Calibration | None) -> Doubles:
    """Calibrated exceedance [server, metric, horizon]; NaN without a forecast or a threshold."""
    by_metric = incident_probabilities(forecast.quantiles, forecast.levels, limits)
    if calibration is not None:
        by_metric = calibration.apply(by_metric)
    made = np.array([source != NONE for source in forecast.sources], dtype=bool)
    return np.where((np.isfinite(limits) & made[:, None])[:, :, None], by_metric, np.nan)


def _shares(line: Doubles, server: Doubles, model: RiskModel, features: Features, metrics: tuple[str, ...]) -> Doubles:
    """Share of a server's probability that each metric is shown with, [server, metric, horizon]; the driver's is 1.

    By exceedance; where the model says more than `EXPLAINED` by its contributions at its longest horizon.
    """
    largest = np.fmax.reduce(line, axis=1)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(largest > 0, line / largest, np.where(np.isnan(line), np.nan, 1.0))
    rows = np.flatnonzero(server[:, -1] >= EXPLAINED)
    if len(rows):
        longest = [name for name in HORIZONS if name in model.horizons][-1]
        raised = model.contributions(features.of_servers(rows), metrics, longest)[:, :, None]
        raised = np.where(np.isnan(line[rows]), np.nan, raised)
        shares[rows] = np.exp(raised - np.fmax.reduce(raised, axis=1)[:, None])
    return shares
