"""Deployment `watcher`: one forecast cycle over the fleet at every grid step. One replica."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal

import pyarrow as pa

from fleetcast.clock import STEP_SECONDS
from fleetcast.errors import FleetCastError, LeaseLostError, ServiceError, StoreError, UsageError
from fleetcast.forecast.explanation import Explanation
from fleetcast.forecast.table import FALLBACK, MODEL, NONE, ForecastArrays
from fleetcast.risk.assess import Risk
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.cycle import Watch, watch
from fleetcast.risk.model import RiskModel
from fleetcast.store.engine import open_store
from fleetcast.store.leases import Lease
from fleetcast.windows.arrays import FleetArrays
from serve_app import views
from serve_app.archive import Archive
from serve_app.arguments import AppArgs
from serve_app.forecaster import ModelDescription, Shard
from serve_app.handles import Handle
from serve_app.leadership import Leadership
from serve_app.schedule import due, is_overdue
from serve_app.schemas import (
    CycleInfo,
    FleetPage,
    Heatmap,
    ModelInfo,
    ScenarioName,
    ServerForecast,
    StreamMessage,
)
from serve_app.sharding import Sharding, in_words
from serve_app.snapshot import Snapshot, in_zone, level_changes, take_snapshot

logger = logging.getLogger("ray.serve")

LEASE = "watcher"
WITHOUT_LEASE_S = 0.5
LONGEST_SLEEP_S = 5.0  # a clock that is set forward is noticed within this time
KEPT_MESSAGES = 64
POLL_S = 15.0


@dataclass(frozen=True)
class Scenario:
    """What the demo feed is asked to play, since when and on which servers (None: the feed's choice)."""

    name: ScenarioName
    since: datetime
    servers: tuple[str, ...] | None = None


@dataclass(frozen=True)
class WatcherStatus:
    """The watcher's part of `/v1/status`; `reasons` says why the service is not ready."""

    reasons: list[str]
    model: ModelInfo
    cycle: CycleInfo | None
    scenario: Scenario | None


@dataclass
class _Found:
    snapshot: Snapshot | None
    problems: list[str]
    retried: int = 0


class Watcher:
    """Runs the cycle in the background and answers reads from what the last one found.

    A cycle never overlaps the next: steps that pass while one runs are skipped, counted and reported. Of several
    watchers on one database one holds the lease and runs cycles; what another still writes is refused.
    """

    def __init__(
        self,
        args: AppArgs,
        history: Handle,
        forecaster: Handle,
        alerts: Handle,
        remediation: Handle,
        topology: pa.Table | None = None,
    ) -> None:
        self._args, self._clock = args, args.clock.build()
        self._settle = timedelta(seconds=args.settle_s)
        self._history, self._forecaster = history, forecaster
        self._alerts, self._remediation = alerts, remediation
        store = open_store(args.database)
        self._leadership = Leadership(store, LEASE)
        self._archive = Archive(store, args.forecasts, args.service)
        self._sharding = Sharding(forecaster, args.service.shard_servers)
        self._tidying: asyncio.Task[None] | None = None
        self._model: ModelDescription | None = None
        self._snapshot: Snapshot | None = None
        self._topology, self._kept = topology, Watch()
        self._cycle: CycleInfo | None = None
        self._skipped = 0
        self._scenario = None if args.clock.origin is None else Scenario("healthy", self._clock.now())
        self._messages: deque[StreamMessage] = deque(maxlen=KEPT_MESSAGES)
        self._published = asyncio.Condition()
        self._loops = [asyncio.create_task(loop) for loop in (self._leadership.run(), self._watch())]

    async def check_health(self) -> None:
        """Raise when a background loop has ended, so that Serve starts a new replica."""
        for loop in self._loops:
            if loop.done():
                raise ServiceError(f"a loop of the watcher has ended: {loop}")

    async def status(self) -> WatcherStatus:
        """The last cycle, and whether forecasts come from the model."""
        model = await self._describe()
        return WatcherStatus(self._reasons(), model.info, self._cycle, self._scenario)

    async def reasons(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        return self._reasons()

    async def fleet(
        self, profile: str | None, level: str | None, sort: Literal["score", "server"], limit: int, offset: int
    ) -> FleetPage:
        """A page of the fleet."""
        return views.fleet_page(self._snapshot, profile, level, sort, limit, offset)

    async def forecast(self, server: str) -> ServerForecast | None:
        """The last forecast of one server; None when no cycle has seen it."""
        return None if self._snapshot is None else views.server_forecast(self._snapshot, server)

    async def explain(self, server: str) -> Explanation | None:
        """Why the last forecast of one server is what it is, from the samples that are there now; None as above."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.row_of(server) is None:
            return None
        model = await self._describe()
        fleet: FleetArrays | None = await self._history.window_of.remote(server, snapshot.origin, model.history_steps)
        if fleet is None:
            return None
        shard = Shard(in_zone(fleet, model.timezone), snapshot.origin)
        found: Explanation = await self._forecaster.explain.remote(shard)
        return found

    async def heatmap(self, metric: str) -> Heatmap | None:
        """Forecast medians of a metric; None when the model does not forecast it."""
        return views.heatmap(self._snapshot, metric)

    async def scenario(self) -> Scenario | None:
        """The demo's scenario; None when the service runs on the real clock."""
        return self._scenario

    async def switch(self, name: ScenarioName, servers: Sequence[str] | None) -> Scenario | None:
        """Ask the demo feed for a scenario; None when the service runs on the real clock.

        Raises `UsageError` for servers that no cycle has seen.
        """
        known = () if self._snapshot is None else self._snapshot.forecast.servers
        unknown = sorted(set(servers or ()) - set(known))
        if unknown:
            raise UsageError(f"unknown servers {', '.join(unknown[:5])}; GET /v1/fleet lists those that there are")
        if self._scenario is not None:
            self._scenario = Scenario(name, self._clock.now(), None if servers is None else tuple(servers))
        return self._scenario

    async def messages(self, after: int) -> list[StreamMessage]:
        """Messages with a greater sequence number, as soon as there is one; empty after 15 s without any.

        After a restart with a clock that was set back, all kept messages count as new.
        """
        newest = self._messages[-1].seq if self._messages else None
        if newest is not None and newest < after:
            return list(self._messages)
        try:
            async with asyncio.timeout(POLL_S), self._published:
                await self._published.wait_for(lambda: self._messages and self._messages[-1].seq > after)
        except TimeoutError:
            return []
        return [message for message in self._messages if message.seq > after]

    async def _watch(self) -> None:
        last: datetime | None = None
        fence = 0
        while True:
            lease = self._leadership.lease
            if lease is None:
                await asyncio.sleep(WITHOUT_LEASE_S)
                continue
            now = self._clock.now()
            plan = due(now, self._settle, last)
            if plan.origin is None:
                await asyncio.sleep(min(LONGEST_SLEEP_S, self._clock.sleep_seconds(plan.next_at)))
                continue
            self._skipped += plan.skipped
            last = plan.origin
            await self._run_cycle(plan.origin, lease, begins=lease.fence != fence)
            fence = lease.fence

    async def _run_cycle(self, origin: datetime, lease: Lease, begins: bool) -> None:
        """One cycle; a failure is logged and shown in the status, and the loop goes on."""
        started = time.monotonic()
        try:
            if begins:
                await self._take_over(origin)
            found = await self._observe_fleet(origin, lease)
        except LeaseLostError as error:
            logger.warning("the cycle of %s is given up: %s", origin.isoformat(), error)
            return
        except Exception as error:
            logger.exception("the cycle of %s failed", origin.isoformat())
            found = _Found(None, [in_words(error)])
        seconds = time.monotonic() - started
        self._cycle = self._info(origin, found, seconds)
        if self._cycle.slow:
            logger.warning("the cycle of %s took %.1f s, longer than a step of the clock", origin.isoformat(), seconds)
        if found.snapshot is not None:
            before, self._snapshot = self._snapshot, found.snapshot
            await self._publish(before, found.snapshot)
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(asyncio.to_thread(self._tidy, lease))

    async def _take_over(self, origin: datetime) -> None:
        """Go on where the last holder of the lease stopped."""
        self._kept = await asyncio.to_thread(self._archive.recall, origin)
        await asyncio.to_thread(self._archive.sweep)

    def _tidy(self, lease: Lease) -> None:
        try:
            self._archive.tidy(lease, self._clock.now())
        except FleetCastError as error:
            logger.warning("stored forecasts were not tidied, next try follows: %s", error)

    async def _observe_fleet(self, origin: datetime, lease: Lease) -> _Found:
        model = self._model = await self._forecaster.describe.remote()
        fleet = in_zone(await self._history.window.remote(origin, model.history_steps), model.timezone)
        if not fleet.servers:
            return _Found(None, ["no samples yet: send them to POST /v1/samples"])
        found = await self._sharding.forecast(fleet, origin, model.info)
        risks, kept = await asyncio.to_thread(_assess, fleet, found.forecast, model, self._kept, self._topology)
        snapshot = await asyncio.to_thread(_snapshot, fleet, found.forecast, risks, model)
        problems = found.problems + await self._keep(snapshot, kept, model, lease)
        self._kept = kept
        problems += await self._hand_over(fleet, risks, lease)
        return _Found(snapshot, problems, found.retried)

    async def _keep(self, snapshot: Snapshot, kept: Watch, model: ModelDescription, lease: Lease) -> list[str]:
        """Store the forecasts and risks; returns what went wrong. Raises `LeaseLostError`."""
        save = self._archive.save
        try:
            return await asyncio.to_thread(save, lease, snapshot.forecast, snapshot.risks, kept, model.info)
        except LeaseLostError:
            raise
        except StoreError as error:
            logger.warning("forecasts and risks are not stored: %s", error)
            return [f"forecasts and risks are not stored: {error}"]

    async def _hand_over(self, fleet: FleetArrays, risks: Sequence[Risk], lease: Lease) -> list[str]:
        """Give the risks to alerts, and the open alerts to remediation; returns what went wrong.

        Raises `LeaseLostError`.
        """
        planned = fleet.maintenance_mask(fleet.steps - 1, fleet.steps)[:, 0]
        maintenance = frozenset(name for name, held in zip(fleet.servers, planned, strict=True) if held)
        profiles = dict(zip(fleet.servers, fleet.profiles, strict=True))
        try:
            opened = await self._alerts.observe.remote(risks, self._clock.now(), maintenance, lease)
            if opened:
                await self._remediation.propose.remote(opened, profiles)
        except LeaseLostError:
            raise
        except Exception as error:
            logger.exception("alerts or remediation failed")
            return [f"alerts or remediation failed: {in_words(error)}"]
        return []

    async def _publish(self, before: Snapshot | None, after: Snapshot) -> None:
        message = StreamMessage(
            seq=int(after.origin.timestamp()) // STEP_SECONDS,
            type="cycle",
            origin=after.origin,
            summary=views.fleet_summary(after),
            changes=level_changes(before, after),
        )
        async with self._published:
            self._messages.append(message)
            self._published.notify_all()

    async def _describe(self) -> ModelDescription:
        if self._model is None:
            self._model = await self._forecaster.describe.remote()
        return self._model

    def _info(self, origin: datetime, found: _Found, seconds: float) -> CycleInfo:
        sources = found.snapshot.by_source() if found.snapshot else {}
        return CycleInfo(
            origin=origin,
            number=1 if self._cycle is None else self._cycle.number + 1,
            seconds=seconds,
            servers=len(found.snapshot.risks) if found.snapshot else 0,
            model=sources.get(MODEL, 0),
            fallback=sources.get(FALLBACK, 0),
            none=sources.get(NONE, 0),
            slow=seconds * self._args.clock.speed > STEP_SECONDS,
            skipped=self._skipped,
            retried=found.retried,
            error="; ".join(found.problems) or None,
            flaps_per_server_day=self._kept.flaps_per_server_day,
        )

    def _reasons(self) -> list[str]:
        if self._cycle is None:
            return ["no forecast cycle has ended yet"]
        reasons = []
        if self._leadership.lease is None:
            reasons.append("this watcher does not hold the lease: another one does, or the database does not answer")
        if not self._cycle.model:
            why = self._cycle.error or f"{self._cycle.fallback} servers fell back, {self._cycle.none} have none"
            reasons.append(f"the last cycle had no forecast from the model: {why}")
        elif self._cycle.fallback > self._cycle.model:
            count = self._cycle.fallback + self._cycle.model
            reasons.append(f"{self._cycle.fallback} of {count} forecasts are the untrained fallback's")
        if is_overdue(self._clock.now(), self._settle, self._cycle.origin):
            reasons.append(f"the forecast cycle is overdue: the last origin was {self._cycle.origin.isoformat()}")
        return reasons


def _assess(
    fleet: FleetArrays, forecast: ForecastArrays, model: ModelDescription, kept: Watch, topology: pa.Table | None
) -> tuple[list[Risk], Watch]:
    fitted = None if model.risk is None else _fitted(model.risk)
    return watch(fleet, forecast, kept, _calibration(model), fitted, topology)


def _snapshot(fleet: FleetArrays, forecast: ForecastArrays, risks: Sequence[Risk], model: ModelDescription) -> Snapshot:
    return take_snapshot(fleet, forecast, risks, _calibration(model))


def _calibration(model: ModelDescription) -> Calibration | None:
    return None if model.calibration is None else Calibration.model_validate(model.calibration)


@lru_cache(maxsize=2)
def _fitted(text: str) -> RiskModel:
    """The risk model of a text, read once."""
    return RiskModel.loads(text)
