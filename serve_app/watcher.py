"""Deployment `watcher`: one forecast cycle over the fleet at every grid step. One replica."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from fleetcast.clock import STEP_SECONDS
from fleetcast.errors import LeaseLostError, ServiceError, UsageError
from fleetcast.forecast.explanation import Explanation
from fleetcast.forecast.table import FALLBACK, MODEL, NONE
from fleetcast.store.engine import open_store
from fleetcast.store.leases import Lease
from fleetcast.windows.arrays import FleetArrays
from serve_app import views
from serve_app.arguments import AppArgs
from serve_app.cycle import FleetCycle, Found
from serve_app.forecaster import ModelDescription, Shard
from serve_app.handles import Handle
from serve_app.history import HistoryCounts
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
from serve_app.schemas_past import ServerRisk
from serve_app.sharding import in_words
from serve_app.snapshot import Snapshot, for_model, level_changes
from serve_app.tally import Report
from serve_app.telemetry import Moment, Telemetry

logger = logging.getLogger("ray.serve")

LEASE = "watcher"
WITHOUT_LEASE_S = 0.5
LONGEST_SLEEP_S = 5.0  # a clock that is set forward is noticed within this time
KEPT_MESSAGES = 64
POLL_S = 15.0
COUNTS_S = 3.0


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
    refused: str | None
    cycle: CycleInfo | None
    scenario: Scenario | None


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
        store = open_store(args.database)
        self._leadership = Leadership(store, LEASE)
        self._telemetry = Telemetry(args.metrics)
        parts = (history, forecaster, alerts, remediation)
        self._cycles = FleetCycle(args, store, self._clock, *parts, topology, self._telemetry)
        self._model: ModelDescription | None = None
        self._snapshot: Snapshot | None = None
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
        return WatcherStatus(self._reasons(), model.info, model.refused, self._cycle, self._scenario)

    async def reasons(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        return self._reasons()

    async def report(self, report: Report) -> None:
        """What another process counted."""
        await self._telemetry.told(report)

    async def metrics(self) -> bytes:
        """All series in Prometheus' text format."""
        history: HistoryCounts | None
        try:
            history = await asyncio.wait_for(self._history.counts.remote(), COUNTS_S)
        except Exception as error:
            logger.warning("the history does not count: %s", in_words(error))
            history = None
        moment = Moment(self._clock.now(), not self._reasons(), self._cycle, self._snapshot, history)
        return await asyncio.to_thread(self._telemetry.text, moment)

    async def fleet(self, query: views.FleetQuery) -> FleetPage:
        """A page of the fleet."""
        return views.fleet_page(self._snapshot, query)

    async def risk(self, server: str) -> ServerRisk | None:
        """The last risk of one server, without past ones; None when no cycle has seen it."""
        snapshot = self._snapshot
        item = None if snapshot is None else views.fleet_item(snapshot, server)
        if snapshot is None or item is None:
            return None
        return ServerRisk(server=server, origin=snapshot.origin, model=snapshot.model, now=item, past=[])

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
        fleet = for_model(fleet, model.info.targets, model.timezone)
        shard = Shard(fleet, snapshot.origin, snapshot.model.digest)
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

    async def since(self, after: int) -> list[StreamMessage]:
        """What a client has missed that had the message `after`; a single one with all servers where that is not kept.

        Empty when it has missed nothing, or there is nothing yet.
        """
        if self._snapshot is None or (self._messages and self._messages[-1].seq == after):
            return []
        known = [number for number, one in enumerate(self._messages) if one.previous == after]
        return list(self._messages)[known[-1] :] if known else [_message(None, self._snapshot)]

    async def _watch(self) -> None:
        last: datetime | None = None
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
            await self._run_cycle(plan.origin, lease)

    async def _run_cycle(self, origin: datetime, lease: Lease) -> None:
        """One cycle; a failure is logged and shown in the status, and the loop goes on."""
        started = time.monotonic()
        try:
            self._model = await self._forecaster.describe.remote()
            found = await self._cycles.run(origin, lease, self._model)
        except LeaseLostError as error:
            logger.warning("the cycle of %s is given up: %s", origin.isoformat(), error)
            return
        except Exception as error:
            logger.exception("the cycle of %s failed", origin.isoformat())
            found = Found(None, [in_words(error)])
        seconds = time.monotonic() - started
        self._cycle = self._info(origin, found, seconds)
        self._telemetry.cycle(self._cycle)
        if self._cycle.slow:
            logger.warning("the cycle of %s took %.1f s, longer than a step of the clock", origin.isoformat(), seconds)
        if found.snapshot is not None:
            before, self._snapshot = self._snapshot, found.snapshot
            await self._publish(before, found.snapshot)
        self._cycles.tidy(lease, found)

    async def _publish(self, before: Snapshot | None, after: Snapshot) -> None:
        message = _message(before, after)
        async with self._published:
            self._messages.append(message)
            self._published.notify_all()

    async def _describe(self) -> ModelDescription:
        if self._model is None:
            self._model = await self._forecaster.describe.remote()
        return self._model

    def _info(self, origin: datetime, found: Found, seconds: float) -> CycleInfo:
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
            flaps_per_server_day=self._cycles.flaps_per_server_day,
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


def _message(before: Snapshot | None, after: Snapshot) -> StreamMessage:
    return StreamMessage(
        seq=_sequence(after),
        previous=None if before is None else _sequence(before),
        type="cycle",
        origin=after.origin,
        summary=views.fleet_summary(after),
        changes=level_changes(before, after),
    )


def _sequence(snapshot: Snapshot) -> int:
    return int(snapshot.origin.timestamp()) // STEP_SECONDS
