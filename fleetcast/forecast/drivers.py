"""The metrics that drive a server's forecast: how much lower its peak were, had each of them been as usual."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.forecast.counterfactual import Reforecast, recent, reforecast
from fleetcast.forecast.explanation import Driver, Drivers
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.windows.arrays import FleetArrays

HOURS = 4.0
PEAK_LEVEL = 0.9


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
