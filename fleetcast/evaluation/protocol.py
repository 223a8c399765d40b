"""What the backtest asks of a forecaster, a rival, and whoever listens to the forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fleetcast.evaluation.figures import Section
from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays


class ForecasterManifest(Protocol):
    """What it forecasts, and what it has seen."""

    @property
    def targets(self) -> Sequence[str]:
        """Metrics that it forecasts."""

    @property
    def levels(self) -> Sequence[float]:
        """Its quantile levels, ascending."""

    @property
    def horizon(self) -> int:
        """Steps ahead."""

    @property
    def cutoff(self) -> datetime:
        """Last time stamp (UTC) that anything in it was fitted on."""


class Forecaster(Protocol):
    """A bundle's forecaster, or any function of the past dressed as one."""

    @property
    def manifest(self) -> ForecasterManifest:
        """What it forecasts, and what it has seen."""

    def forecast(self, fleet: FleetArrays, origin: datetime) -> ForecastArrays:
        """Quantiles of all servers from this origin, in the fleet's order."""


class Rival(Protocol):
    """What a model is compared with; given the fleet up to an origin and nothing else."""

    def quantiles(
        self, past: FleetArrays, metrics: Sequence[str], horizon: int, levels: Sequence[float]
    ) -> npt.NDArray[np.float32]:
        """Quantiles [server, metric, step, level] after the last step of `past`; NaN where there is no forecast."""


class Listener(Protocol):
    """Takes part in a backtest without changing it: writes forecasts, scores something else."""

    def add(self, fleet: FleetArrays, forecasts: Sequence[ForecastArrays]) -> None:
        """Called once for each chunk of servers.

        `fleet` is the whole time axis, truth included; `forecasts` has the model's forecast of its servers for each
        origin, at the levels of the backtest, in time order. Nothing may be changed.
        """


class Scoring(Listener, Protocol):
    """A listener that adds a section to the report; `catalogue.make_scorings` says which there are."""

    def section(self) -> Section:
        """What it found, asked for once after the last chunk."""

    def images(self) -> Mapping[str, bytes]:
        """PNG files by the names that the section's `images` mention."""
