"""The metrics that drive a server's forecast: how much lower its peak were, had each of them been as usual."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.forecast.counterfactual import Reforecast, recent, reforecast
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.windows.arrays import FleetArrays

HOURS = 4.0
PEAK_LEVEL = 0.9


class Driver(BaseModel):
    """One metric's effect on the peak of a target, in the target's unit.

    `effect` is the peak as it is minus the peak `without`: had the metric been at its usual level. Above 0 it drives
    the target up, below 0 it holds it down.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    effect: float
    without: float
    edited: int = Field(description="samples that were replaced")


class Drivers(BaseModel):
    """The drivers of one target, the largest effect of either sign first; metrics without an effect are left out."""

    model_config = ConfigDict(frozen=True)

    target: str
    unit: str = Field(description='UCUM; "1" is a ratio')
    level: float = Field(description="quantile level whose peak over the horizon is explained")
    peak: float
    peak_step: int = Field(description="steps of 5 minutes after the origin")
    hours: float = Field(description="so much of each metric's past was replaced by its usual level")
    drivers: tuple[Driver, ...]


def rank_drivers(
    forecaster: Forecaster, fleet: FleetArrays, server: str, origin: datetime, hours: float = HOURS
) -> tuple[Drivers, ...]:
    """The drivers of each target that has a forecast.

    Each metric that the model reads is replaced in turn, over the last `hours`, by its usual level (`Edit`): one batch
    of windows for all. What is explained is the peak over the horizon of the 0.9 quantile, or of the model's nearest
    level to it. Raises what `reforecast` raises.
    """
    metrics = [name for name in forecaster.spec.features if name in fleet.metrics]
    hours = min(hours, forecaster.history_steps / STEPS_PER_HOUR)
    cases = [[recent(name, origin, hours, "usual")] for name in metrics]
    found = reforecast(forecaster, fleet, server, origin, cases)
    column = int(np.argmin(np.abs(np.array(found.forecast.levels) - PEAK_LEVEL)))
    targets = [
        _drivers(found, place, column, metrics, hours)
        for place in range(len(found.forecast.metrics))
        if np.isfinite(found.forecast.quantiles[0, place]).all()
    ]
    return tuple(targets)


def _drivers(found: Reforecast, place: int, column: int, metrics: list[str], hours: float) -> Drivers:
    path = found.forecast.quantiles[0, place, :, column].astype(np.float64)
    without = found.quantiles[:, place, :, column].max(axis=1).astype(np.float64)
    drivers = [
        Driver(metric=name, effect=float(path.max() - peak), without=float(peak), edited=edited)
        for name, peak, edited in zip(metrics, without, found.edited, strict=True)
        if edited and peak != path.max()
    ]
    target = found.forecast.metrics[place]
    return Drivers(
        target=target,
        unit=contract_metric(target).unit,
        level=found.forecast.levels[column],
        peak=float(path.max()),
        peak_step=int(path.argmax()) + 1,
        hours=hours,
        drivers=tuple(sorted(drivers, key=lambda one: -abs(one.effect))),
    )
