"""History as the API shows it."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.vocabulary import state_names
from fleetcast.windows.arrays import FleetArrays
from serve_app.schemas import ProfileTrend, ServerHistory, Trends
from serve_app.views import numbers, times


def server_history(fleet: FleetArrays) -> ServerHistory:
    """All metrics and states of a fleet of one server."""
    return ServerHistory(
        server=fleet.servers[0],
        profile=fleet.profiles[0],
        timestamps=times(fleet.timestamps),
        states=[str(word) for word in state_names(fleet.states()[0])],
        metrics={name: numbers(fleet.values[0, :, column]) for column, name in enumerate(fleet.metrics)},
    )


def trends(fleet: FleetArrays, metric: str) -> Trends:
    """Mean and 90th percentile of a metric over the servers of each profile, at each time.

    A metric that the fleet does not have is None throughout.
    """
    values = fleet.select([metric])[:, :, 0]
    profiles = {}
    for name in sorted(set(fleet.profiles)):
        rows = [row for row, profile in enumerate(fleet.profiles) if profile == name]
        profiles[name] = _profile_trend(values[rows])
    unit = contract_metric(metric).unit
    return Trends(metric=metric, unit=unit, timestamps=times(fleet.timestamps), profiles=profiles)


def _profile_trend(values: npt.NDArray[np.float32]) -> ProfileTrend:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(Mean of empty slice|All-NaN slice encountered)", RuntimeWarning)
        mean = np.nanmean(values, axis=0)
        p90 = np.nanquantile(values, 0.9, axis=0)
    return ProfileTrend(mean=numbers(mean), p90=numbers(p90))
