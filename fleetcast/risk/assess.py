"""From a forecast to the risk of every server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, Field

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.fleet import any_probability
from fleetcast.risk.judge import Judgement, judge
from fleetcast.risk.levels import LEVELS, level_codes, scores
from fleetcast.risk.limits import Limits, critical_limits
from fleetcast.risk.model import RiskModel
from fleetcast.risk.probability import HORIZONS, run_probability
from fleetcast.windows.arrays import FleetArrays

BREACH_LEVELS = (0.5, 0.9, 0.1)
NO_THRESHOLD = "no forecast metric has a critical threshold"


class Risk(BaseModel):
    """What one forecast says of one server. Probabilities and score are None where there is no forecast."""

    server: str
    profile: str
    origin: datetime
    p_30m: float | None = Field(ge=0, le=1, description="P(an incident begins within 30 min)")
    p_2h: float | None = Field(ge=0, le=1)
    p_8h: float | None = Field(ge=0, le=1)
    open: bool = Field(description="an incident is open now")
    level: Literal["P1", "P2", "P3", "P4"] = Field(description="by the probabilities, or kept from origins before")
    score: float | None = Field(ge=0, le=100, description="display scale of the probabilities")
    metric: str | None = Field(description="the metric that drives the risk")
    metric_probabilities: dict[str, float] = Field(description="P(an incident begins within 8 h) by metric")
    breach_s: float | None = Field(description="seconds from the origin until the driver's median path breaches")
    breach_low_s: float | None = Field(description="the same of the path at or next to the 0.9 quantile: the earliest")
    breach_high_s: float | None = Field(description="the same of the path at or next to the 0.1 quantile: the latest")
    source: Literal["model", "fallback", "none"]
    reason: str


def assess(
    forecast: ForecastArrays,
    open_: npt.NDArray[np.bool_],
    calibration: Calibration | None = None,
    model: RiskModel | None = None,
    fleet: FleetArrays | None = None,
    limits: Limits | None = None,
    topology: pa.Table | None = None,
) -> list[Risk]:
    """The risk of every server of a forecast, in its order.

    Args:
        forecast: quantiles of servers and metrics.
        open_: whether each metric is in an open incident at the origin, [server, metric] (`incidents.open_now`).
        calibration: of the model that forecast; None leaves probabilities as the quantiles give them.
        model: the fitted risk model of the bundle; it needs `fleet`. Without it the line is used (`risk.judge`).
        fleet: the samples up to the origin, of the forecast's servers in its order.
        limits: critical limits [server, metric]; by default the profiles'.
        topology: who depends on whom (schema `TOPOLOGY`), where known.

    The driver is the open metric, else the one with the highest score of its own, then the largest P(8 h). A metric
    without a forecast or without a critical threshold has no probability. A server without any has none either and is
    at P4 with the reason, unless an incident is open.

    A horizon beyond the forecast's end has a probability only where the calibration was fitted to it: else it is None,
    and the level rests on what the forecast reaches, which is a lower bound.
    """
    limits = critical_limits(forecast.profiles, forecast.metrics) if limits is None else limits
    judged = judge(forecast, limits, calibration, model, fleet, topology)
    by_metric, p = judged.metric, judged.server
    says = _horizons_said(forecast.horizon, calibration, judged)
    opened = np.asarray(open_.any(axis=1))
    drivers = _drivers(by_metric, open_)
    levels = level_codes(p[:, 0], p[:, 2], opened)
    score = scores(p[:, 0], p[:, 2], opened)
    breaches = _breach_seconds(forecast, limits, drivers, opened)
    risks = []
    for row, server in enumerate(forecast.servers):
        known = ~np.isnan(by_metric[row, :, 2])
        risks.append(
            Risk(
                server=server,
                profile=forecast.profiles[row],
                origin=forecast.origin,
                p_30m=_optional(p[row, 0]) if says[0] else None,
                p_2h=_optional(p[row, 1]) if says[1] else None,
                p_8h=_optional(p[row, 2]) if says[2] else None,
                open=bool(opened[row]),
                level=LEVELS[levels[row]],
                score=_optional(score[row]),
                metric=forecast.metrics[drivers[row]] if known.any() or opened[row] else None,
                metric_probabilities={
                    forecast.metrics[column]: float(by_metric[row, column, 2])
                    for column in np.flatnonzero(known & says[2])
                },
                breach_s=_optional(breaches[row, 0]),
                breach_low_s=_optional(breaches[row, 1]),
                breach_high_s=_optional(breaches[row, 2]),
                source=forecast.sources[row],
                reason=forecast.reasons[row] or ("" if known.any() else NO_THRESHOLD),
            )
        )
    return risks


def fleet_probability(risks: Sequence[Risk], calibration: Calibration | None = None) -> dict[str, float | None]:
    """P(at least one server without an open incident gets one) as `p_any_30m` and `p_any_8h`; see `risk.fleet`.

    Without a calibration servers count as independent given their forecasts. None when no server has a probability.
    """
    shared = {} if calibration is None else calibration.shared
    return {
        "p_any_30m": _any([risk.p_30m for risk in risks if not risk.open], shared.get("30m", 1.0)),
        "p_any_8h": _any([risk.p_8h for risk in risks if not risk.open], shared.get("8h", 1.0)),
    }


def _horizons_said(horizon: int, calibration: Calibration | None, judged: Judgement) -> list[bool]:
    """Whether there is a probability for each of `HORIZONS` after a forecast of so many steps."""
    lines = calibration.horizons if calibration is not None else {}
    return [
        steps <= horizon or judged.source[place] == "fitted" or (name in lines and lines[name].windows > 0)
        for place, (name, steps) in enumerate(HORIZONS.items())
    ]


def _any(probabilities: Sequence[float | None], exponent: float) -> float | None:
    return _optional(np.float64(any_probability(np.array(probabilities, dtype=np.float64), exponent)))


def _drivers(by_metric: npt.NDArray[np.float64], open_: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Position of the metric that drives each server's risk: its highest score, ties by P(8 h), then by order."""
    score = scores(by_metric[..., 0], by_metric[..., 2], open_)
    keys = (np.nan_to_num(by_metric[..., 2], nan=-1.0), np.nan_to_num(score, nan=-1.0))
    return np.asarray(np.lexsort((-keys[0], -keys[1]), axis=1)[:, 0])


def _breach_seconds(
    forecast: ForecastArrays,
    limits: npt.NDArray[np.float32],
    drivers: npt.NDArray[np.int64],
    opened: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Seconds until the driver's quantile paths begin a run at or above its threshold, [server, 3]; NaN for never.

    The paths are those of the levels next to `BREACH_LEVELS`. An open incident has breached: 0.
    """
    levels = np.asarray(forecast.levels)
    rows = np.arange(len(forecast.servers))
    columns = [int(np.abs(levels - wanted).argmin()) for wanted in BREACH_LEVELS]
    paths = forecast.quantiles[rows, drivers][:, :, columns].transpose(0, 2, 1)
    runs = run_probability((paths >= limits[rows, drivers][:, None, None]).astype(np.float64)) > 0
    seconds = np.where(runs.any(axis=2), STEP_SECONDS * (runs.argmax(axis=2) + 1.0), np.nan)
    return np.where(opened[:, None], 0.0, seconds)


def _optional(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
