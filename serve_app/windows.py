"""Forecasts of callers' own windows: samples of some servers in, quantiles out, several callers in one run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from fleetcast.errors import FleetCastError, ServiceError
from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays
from serve_app.schemas import ModelName

if TYPE_CHECKING:
    from fleetcast.forecast.forecaster import Forecaster


@dataclass(frozen=True)
class Window:
    """A caller's samples with the planned maintenance that the caller knows of, the origin, and how long it waits.

    `deadline` is in seconds of `time.time()`.
    """

    fleet: FleetArrays
    origin: datetime
    deadline: float


@dataclass(frozen=True)
class WindowForecast:
    """A window's forecast, the model that made it, and how many windows shared its run."""

    forecast: ForecastArrays
    model: ModelName
    batch: int = 1


class TooLateError(ServiceError):
    """Nobody waits for the answer any more."""


Answer = WindowForecast | FleetCastError


def forecast_windows(forecaster: Forecaster, windows: Sequence[Window]) -> list[Answer]:
    """Forecast several windows, those with one origin, the same metrics and plans in one run; answers in their order.

    A window that cannot be forecast has its error as its answer; one whose deadline has passed is not worked on.
    """
    name = ModelName(run=forecaster.manifest.run, digest=forecaster.manifest.weights_sha256)
    answers: dict[int, Answer] = {}
    groups: dict[tuple[object, ...], list[tuple[int, FleetArrays]]] = {}
    for number, window in enumerate(windows):
        if window.deadline < time.time():
            answers[number] = TooLateError("the caller's time was over before the forecaster came to it")
            continue
        try:
            fleet = forecaster.history(window.fleet, window.origin)
        except FleetCastError as error:
            answers[number] = error
        else:
            planned = repr(fleet.maintenance.to_pylist())  # two callers may know different plans of one name
            groups.setdefault((window.origin, fleet.metrics, planned), []).append((number, fleet))
    for members in groups.values():
        fleet = replace(join([fleet for _, fleet in members]), timezone=forecaster.manifest.timezone)
        found = forecaster.forecast(fleet, windows[members[0][0]].origin)
        first = 0
        for number, fleet in members:
            last = first + len(fleet.servers)
            part = found.of_servers(range(first, last)) if len(members) > 1 else found
            answers[number] = WindowForecast(part, name, len(members))
            first = last
    return [answers[number] for number in range(len(windows))]


def join(fleets: Sequence[FleetArrays]) -> FleetArrays:
    """Fleets with one time axis and the same metrics as one; planned windows are taken from the first."""
    if len(fleets) == 1:
        return fleets[0]
    return replace(
        fleets[0],
        servers=tuple(name for fleet in fleets for name in fleet.servers),
        profiles=tuple(name for fleet in fleets for name in fleet.profiles),
        values=np.concatenate([fleet.values for fleet in fleets]),
    )
