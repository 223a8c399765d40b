"""What the backtest asks of a forecaster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

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
