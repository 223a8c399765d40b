"""Deployment `forecaster`: one loaded bundle a replica, shards of servers in, quantiles out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel
from ray import serve

from fleetcast.errors import ServiceError
from fleetcast.forecast.explanation import Explanation
from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays
from serve_app.schemas import ModelInfo

if TYPE_CHECKING:
    from fleetcast.forecast.forecaster import Forecaster

logger = logging.getLogger("ray.serve")

MAX_BATCH_SHARDS = 4
BATCH_WAIT_S = 0.01


class ModelDescription(BaseModel):
    """What the other deployments need to know of the loaded bundle."""

    info: ModelInfo
    timezone: str
    history_steps: int
    calibration: dict[str, Any] | None
    risk: str | None = None


@dataclass(frozen=True)
class Shard:
    """Some servers of the fleet and the origin to forecast them from."""

    fleet: FleetArrays
    origin: datetime


@dataclass(frozen=True)
class ShardForecast:
    """A shard's forecast and the digest of the model that made it."""

    forecast: ForecastArrays
    digest: str


class ForecasterReplica:
    """Forecasts shards; calls that arrive together run as one batch through the network."""

    def __init__(self) -> None:
        self._bundle: str | None = None
        self._forecaster: Forecaster | None = None

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load the bundle that the user config names, unless it is the loaded one; running batches keep the old one."""
        from fleetcast.forecast.forecaster import Forecaster  # noqa: PLC0415  # torch loads in these replicas only

        bundle = str(config["bundle"])
        if bundle != self._bundle:
            self._forecaster = await asyncio.to_thread(Forecaster.load, bundle)
            self._bundle = bundle
            logger.info("loaded the bundle %s", bundle)

    async def describe(self) -> ModelDescription:
        """The loaded bundle."""
        return describe(self._loaded())

    async def forecast(self, shard: Shard) -> ShardForecast:
        """Forecast a shard."""
        result: ShardForecast = await self._batch(shard)
        return result

    async def explain(self, shard: Shard) -> Explanation:
        """Explain the forecast of the shard's first server."""
        from fleetcast.forecast.explain import explain  # noqa: PLC0415  # torch loads in these replicas only

        return await asyncio.to_thread(explain, self._loaded(), shard.fleet, shard.fleet.servers[0], shard.origin)

    @serve.batch(max_batch_size=MAX_BATCH_SHARDS, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _batch(self, shards: list[Shard]) -> list[ShardForecast]:
        return await asyncio.to_thread(forecast_shards, self._loaded(), shards)

    def _loaded(self) -> Forecaster:
        if self._forecaster is None:
            raise ServiceError("the forecaster has no bundle: its user_config must name one")
        return self._forecaster


def describe(forecaster: Forecaster) -> ModelDescription:
    """What a forecaster's manifest says."""
    manifest = forecaster.manifest
    info = ModelInfo(
        run=manifest.run,
        digest=manifest.weights_sha256,
        preset=manifest.preset,
        cutoff=manifest.cutoff,
        targets=list(manifest.targets),
        levels=list(manifest.levels),
        context=manifest.context,
        horizon=manifest.horizon,
        parameters=manifest.parameters,
        evaluation=manifest.evaluation,
    )
    return ModelDescription(
        info=info,
        timezone=manifest.timezone,
        history_steps=forecaster.history_steps,
        calibration=manifest.calibration,
        risk=forecaster.risk_text,
    )


def forecast_shards(forecaster: Forecaster, shards: Sequence[Shard]) -> list[ShardForecast]:
    """Forecast several shards, those with one origin and one time axis together; answers in the shards' order."""
    answers: list[ShardForecast | None] = [None] * len(shards)
    for members in _alike(shards):
        fleet = join([shards[number].fleet for number in members])
        found = forecaster.forecast(fleet, shards[members[0]].origin)
        first = 0
        for number in members:
            last = first + len(shards[number].fleet.servers)
            part = found.of_servers(range(first, last))
            answers[number] = ShardForecast(part, forecaster.manifest.weights_sha256)
            first = last
    return [answer for answer in answers if answer is not None]


def _alike(shards: Sequence[Shard]) -> list[list[int]]:
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, shard in enumerate(shards):
        fleet = shard.fleet
        key = (shard.origin, fleet.start, fleet.steps, fleet.metrics, fleet.timezone)
        groups.setdefault(key, []).append(number)
    return list(groups.values())


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
