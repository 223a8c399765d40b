"""Deployment `alerts`: the life of alerts, and the dispatcher that delivers them. One replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from fleetcast.alerting.correlation import Correlator
from fleetcast.alerting.dispatch import Dispatcher, wall_clock
from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.notifiers.build import build_notifiers
from fleetcast.alerting.notifiers.port import Notifier
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import AlertState, AlertView, RoutingRow, SilenceView
from fleetcast.errors import ServiceError, StoreError
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import open_store
from fleetcast.store.leases import Lease
from serve_app.arguments import AppArgs

logger = logging.getLogger("ray.serve")

Notifiers: TypeAlias = Mapping[str, Notifier]
PAUSE_S = 2.0  # between looks at the ladder and the outbox
FORGET_EVERY = timedelta(hours=1)


def parts_of(settings: AlertSettings, upstreams: Mapping[str, Sequence[str]]) -> tuple[Routing, FleetMap, Notifiers]:
    """What the settings describe. Raises `UsageError` for files and settings that are wrong."""
    routing = Routing.load(settings.routing, settings.shadow)
    return routing, FleetMap.load(settings.fleet, upstreams), build_notifiers(routing.receivers, settings)


class Alerts:
    """Turns the risks of each cycle into alerts, lets people act on them, and delivers what is decided.

    Other replicas or processes on the same database may deliver as well: nothing is claimed twice.
    """

    def __init__(self, args: AppArgs, upstreams: Mapping[str, Sequence[str]]) -> None:
        self._clock = args.clock.build()
        self._routing, fleet, notifiers = parts_of(args.alerts, upstreams)
        store = open_store(args.database)
        self._engine = AlertEngine(store, args.alerts, self._routing, fleet)
        self._dispatcher = Dispatcher(store, notifiers, args.alerts)
        self._one_at_a_time = asyncio.Lock()
        self._news = asyncio.Event()
        self._forgotten: datetime | None = None
        self._loop = asyncio.create_task(self._deliver())

    async def check_health(self) -> None:
        """Raise when the delivery has ended, so that Serve starts a new replica."""
        if self._loop.done():
            raise ServiceError(f"the delivery of notifications has ended: {self._loop}")

    async def observe(
        self,
        risks: Sequence[Risk],
        now: datetime,
        maintenance: frozenset[str],
        lease: Lease,
        correlator: Correlator | None = None,
    ) -> list[AlertView]:
        """Take in a cycle's risks; returns the incidents that are live after it.

        Raises `LeaseLostError` when another watcher has taken over.
        """
        async with self._one_at_a_time:
            await asyncio.to_thread(self._engine.observe, risks, now, maintenance, lease, correlator)
            self._news.set()
            return await asyncio.to_thread(self._engine.live)

    async def newest(self, state: AlertState | None, limit: int) -> list[AlertView]:
        """The newest alerts."""
        return await asyncio.to_thread(self._engine.list_alerts, state, limit)

    async def one(self, alert_id: int) -> AlertView:
        """One alert. Raises `NotFoundError`."""
        return await asyncio.to_thread(self._engine.get, alert_id)

    async def routing(self) -> list[RoutingRow]:
        """Who is told what, by level."""
        return self._routing.matrix()

    async def acknowledge(self, alert_id: int, by: str) -> AlertView:
        """Somebody takes care of the alert's incident. Raises `NotFoundError`, `ConflictError`."""
        found = await asyncio.to_thread(self._engine.acknowledge, alert_id, by, self._clock.now())
        self._news.set()
        return found

    async def resolve(self, alert_id: int, by: str) -> AlertView:
        """Somebody says that the alert's incident is over. Raises `NotFoundError`, `ConflictError`."""
        found = await asyncio.to_thread(self._engine.resolve, alert_id, by, self._clock.now())
        self._news.set()
        return found

    async def silences(self, ended: bool) -> list[SilenceView]:
        """Silences that are not over, and with `ended` the others too."""
        return await asyncio.to_thread(self._engine.silences, self._clock.now(), ended)

    async def silence(
        self, matchers: Sequence[str], start: datetime | None, end: datetime, by: str, comment: str
    ) -> SilenceView:
        """Silence alerts. Raises `UsageError`."""
        now = self._clock.now()
        return await asyncio.to_thread(self._engine.silence, matchers, (start or now, end), by, comment, now)

    async def end_silence(self, silence_id: int, by: str) -> SilenceView:
        """End a silence. Raises `NotFoundError`, `ConflictError`."""
        return await asyncio.to_thread(self._engine.end_silence, silence_id, by, self._clock.now())

    async def _deliver(self) -> None:
        """Climb ladders that are due and deliver what waits, for ever; what goes wrong is logged and tried again."""
        while True:
            try:
                await asyncio.to_thread(self._engine.tick, self._clock.now())
                done = await asyncio.to_thread(self._dispatcher.run_once)
                await self._forget(self._clock.now())
                if done.sent and done.next_at is not None and done.next_at <= wall_clock():
                    continue
            except Exception:
                logger.exception("notifications were not delivered; tried again in %g s", PAUSE_S)
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()

    async def _forget(self, now: datetime) -> None:
        """Once an hour of the clock, delete what has been over for long: a few a turn, until none is left."""
        if self._forgotten is not None and abs(now - self._forgotten) < FORGET_EVERY:
            return
        try:
            count = await asyncio.to_thread(self._engine.forget, now)
        except StoreError as error:
            logger.warning("incidents that were over for long were not deleted, next try follows: %s", error)
            return
        if count:
            logger.info("%d incidents that were over for long were deleted", count)
        else:
            self._forgotten = now
