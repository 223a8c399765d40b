"""Baselines as rivals in a backtest, and as forecasters in their own right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from fleetcast.evaluation.protocol import Rival
from fleetcast.forecast.table import FALLBACK, NONE, ForecastArrays
from fleetcast.model.baselines import BASELINES, Baseline
from fleetcast.windows.arrays import FleetArrays

NO_SAMPLE = "no sample up to the origin"
ORACLE, REFERENCE = "oracle", "reference"
LIMITS = (ORACLE, REFERENCE)  # yardsticks of what is possible on simulated data, not rivals to beat


@dataclass(frozen=True)
class BaselineManifest:
    """What a baseline forecasts. It is fitted on nothing but the past that it is given: `cutoff` is the caller's."""

    targets: tuple[str, ...]
    levels: tuple[float, ...]
    horizon: int
    cutoff: datetime


@dataclass(frozen=True)
class BaselineForecaster:
    """A baseline that can stand where a bundle's forecaster stands."""

    name: str
    baseline: Baseline
    manifest: BaselineManifest

    def forecast(self, fleet: FleetArrays, origin: datetime) -> ForecastArrays:
        """Quantiles of all servers from `origin`; reads only steps up to it."""
        manifest = self.manifest
        past = fleet.until(fleet.index_of(origin)).select(manifest.targets).transpose(0, 2, 1)
        quantiles = rival_quantiles(self.baseline, past, manifest.horizon, manifest.levels)
        silent = np.asarray(np.isnan(quantiles).all(axis=(1, 2, 3)))
        return ForecastArrays(
            fleet.servers,
            fleet.profiles,
            manifest.targets,
            manifest.levels,
            origin,
            quantiles,
            tuple(NONE if none else FALLBACK for none in silent),
            tuple(NO_SAMPLE if none else f"baseline {self.name}" for none in silent),
        )


@dataclass(frozen=True)
class BaselineRival:
    """A baseline as a rival: it forecasts each series from its own past."""

    baseline: Baseline

    def quantiles(
        self, past: FleetArrays, metrics: Sequence[str], horizon: int, levels: Sequence[float]
    ) -> npt.NDArray[np.float32]:
        """As `Rival`."""
        return rival_quantiles(self.baseline, past.select(metrics).transpose(0, 2, 1), horizon, levels)


UNTRAINED: dict[str, Rival] = {name: BaselineRival(baseline) for name, baseline in BASELINES.items()}


def rival_quantiles(
    baseline: Baseline, past: npt.NDArray[np.float32], horizon: int, levels: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Quantiles [server, metric, step, level] of a baseline from past [server, metric, time].

    A series that has no value yet has no forecast (NaN).
    """
    series = past.reshape(-1, past.shape[-1])
    quantiles = baseline(series, horizon, levels)
    quantiles[np.isnan(series).all(axis=1)] = np.nan
    return quantiles.reshape(*past.shape[:2], horizon, len(levels))
