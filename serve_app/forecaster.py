"""Deployment `forecaster`: one loaded bundle a replica, shards of servers in, quantiles out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from ray import serve

from fleetcast.errors import FleetCastError, ServiceError
from fleetcast.forecast.explanation import Explanation
from fleetcast.forecast.table import ForecastArrays
from fleetcast.heap import keep_freed_memory
from fleetcast.store.engine import open_store
from fleetcast.windows.arrays import FleetArrays
from serve_app.leadership import one_at_a_time
from serve_app.schemas import ModelInfo
from serve_app.slot import ModelSlot, OtherModelError
from serve_app.windows import Answer, Window, WindowForecast, forecast_windows, join

if TYPE_CHECKING:
    from fleetcast.forecast.forecaster import Forecaster

MAX_BATCH_SHARDS, BATCH_WAIT_S = 4, 0.01
FOLLOW_S = 2.0
RELOADING = "reloading the model"
MAX_BATCH_SERVERS, WINDOWS_WAIT_S = 64, 0.005


def _servers_of(windows: Sequence[Window]) -> int:
    """How much a run with these windows is: one that is full by itself goes alone, so that others are prepared."""
    return sum(min(len(window.fleet.servers), MAX_BATCH_SERVERS) for window in windows)


class ModelDescription(BaseModel):
    """What the other deployments need to know of the loaded bundle."""

    info: ModelInfo
    timezone: str
    history_steps: int
    calibration: dict[str, Any] | None
    risk: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Shard:
    """Some servers of the fleet, the origin to forecast them from, and by which model (None: the one in use)."""

    fleet: FleetArrays
    origin: datetime
    digest: str | None = None


@dataclass(frozen=True)
class ShardForecast:
    """A shard's forecast, the digest of the model that made it, and how many shards shared its run."""

    forecast: ForecastArrays
    digest: str
    batch: int = 1


class ForecasterReplica:
    """Forecasts shards; calls that arrive together run as one batch through the network.

    It follows the path of its bundle: when that leads elsewhere, replicas load the new model one after the other, and
    each answers with the old one until the new one has passed its check.
    """

    def __init__(self, database: str, steps: int) -> None:
        keep_freed_memory()
        self._store = open_store(database)
        self._slot = ModelSlot(steps)
        self._bundle = ""
        self._loading = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load the bundle that the user config names and follow its path."""
        self._bundle = str(config["bundle"])
        await self._load()
        if self._following is None:
            self._following = asyncio.create_task(self._follow())

    async def check_health(self) -> None:
        """Raise when nobody follows the path of the bundle any more, so that Serve starts a new replica."""
        if self._following is not None and self._following.done():
            raise ServiceError(f"the forecaster follows its bundle no more: {self._following}")

    async def describe(self) -> ModelDescription:
        """The model in use."""
        return describe(self._slot.current, self._slot.refused)

    async def forecast(self, shard: Shard) -> ShardForecast:
        """Forecast a shard. Raises `OtherModelError` when the model that it asks for is not there."""
        await self._has(shard.digest)
        result: ShardForecast = await self._batch(shard)
        return result

    async def windows(self, window: Window) -> WindowForecast:
        """Forecast a caller's own samples, together with those of other callers.

        Raises `ContractError` and `IncompatibleError` for samples that the model cannot read, `TooLateError`.
        """
        found: Answer = await self._windows(window)
        if isinstance(found, FleetCastError):
            raise found
        return found

    async def explain(self, shard: Shard) -> Explanation:
        """Explain the forecast of the shard's first server. Raises `OtherModelError`."""
        from fleetcast.forecast.explain import explain  # noqa: PLC0415  # torch loads in these replicas only

        await self._has(shard.digest)
        model = self._slot.of(shard.digest)
        return await asyncio.to_thread(explain, model, shard.fleet, shard.fleet.servers[0], shard.origin)

    @serve.batch(max_batch_size=MAX_BATCH_SHARDS, batch_wait_timeout_s=BATCH_WAIT_S)
    async def _batch(self, shards: list[Shard]) -> list[ShardForecast]:
        models = [self._slot.of(shard.digest) for shard in shards]
        return await asyncio.to_thread(forecast_shards, models, shards)

    @serve.batch(
        max_batch_size=MAX_BATCH_SERVERS,
        batch_wait_timeout_s=WINDOWS_WAIT_S,
        max_concurrent_batches=2,
        batch_size_fn=_servers_of,
    )
    async def _windows(self, windows: list[Window]) -> list[Answer]:
        return await asyncio.to_thread(forecast_windows, self._slot.current, windows)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            if await asyncio.to_thread(self._slot.has_moved, self._bundle):
                async with one_at_a_time(self._store, RELOADING):
                    await self._load()

    async def _has(self, digest: str | None) -> None:
        """See to it that the model is there: a cycle that began with the new one does not wait for this one's turn."""
        try:
            self._slot.of(digest)
        except OtherModelError:
            await self._load()

    async def _load(self) -> None:
        """Load the bundle, unless it is the one that was tried last."""
        async with self._loading:
            if await asyncio.to_thread(self._slot.has_moved, self._bundle):
                await asyncio.to_thread(self._slot.load, self._bundle)


def describe(forecaster: Forecaster, refused: str | None = None) -> ModelDescription:
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
        refused=refused,
    )


def forecast_shards(models: Sequence[Forecaster], shards: Sequence[Shard]) -> list[ShardForecast]:
    """Forecast each shard by its model, those alike together; answers in the shards' order."""
    answers: dict[int, ShardForecast] = {}
    for members in _alike(models, shards):
        model = models[members[0]]
        found = model.forecast(join([shards[number].fleet for number in members]), shards[members[0]].origin)
        first = 0
        for number in members:
            last = first + len(shards[number].fleet.servers)
            part = found.of_servers(range(first, last))
            answers[number] = ShardForecast(part, model.manifest.weights_sha256, len(members))
            first = last
    return [answers[number] for number in range(len(shards))]


def _alike(models: Sequence[Forecaster], shards: Sequence[Shard]) -> list[list[int]]:
    """Positions of the shards with one model, origin, time axis and metrics."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, (model, shard) in enumerate(zip(models, shards, strict=True)):
        fleet = shard.fleet
        key = (id(model), shard.origin, fleet.start, fleet.steps, fleet.metrics, fleet.timezone)
        groups.setdefault(key, []).append(number)
    return list(groups.values())
