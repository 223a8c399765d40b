"""Forecasts of callers' own windows: samples of some servers in, quantiles out, several callers in one run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import FleetCastError, ServiceError
from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays, arrays_from_table
from serve_app.schedule import STEP
from serve_app.schemas import ModelName

if TYPE_CHECKING:
    from fleetcast.forecast.forecaster import Forecaster


@dataclass(frozen=True)
class Window:
    """A caller's samples (server, profile, timestamp, metrics), the origin, and until when the answer is waited for.

    `deadline` is in seconds of `time.time()`; `servers` is how many there are; `maintenance` are the planned windows
    that the caller knows of.
    """

    samples: pa.Table
    origin: datetime
    deadline: float
    servers: int = 1
    maintenance: pa.Table = field(default_factory=MAINTENANCE.empty_table)


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
            fleet = forecaster.history(_fleet(forecaster, window), window.origin)
        except FleetCastError as error:
            answers[number] = error
        else:
            planned = repr(window.maintenance.to_pylist())  # two callers may know different plans of one name
            groups.setdefault((window.origin, fleet.metrics, planned), []).append((number, fleet))
    for members in groups.values():
        found = forecaster.forecast(join([fleet for _, fleet in members]), windows[members[0][0]].origin)
        first = 0
        for number, fleet in members:
            last = first + len(fleet.servers)
            answers[number] = WindowForecast(found.of_servers(range(first, last)), name, len(members))
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


def _fleet(forecaster: Forecaster, window: Window) -> FleetArrays:
    """The samples on the axis that the model reads; all that lies outside is left out."""
    aligned = int(window.origin.timestamp()) % STEP_SECONDS == 0
    start = window.origin - (forecaster.history_steps - 1) * STEP if aligned else None
    end = window.origin if aligned else None
    return arrays_from_table(window.samples, start, end, window.maintenance, forecaster.manifest.timezone)
