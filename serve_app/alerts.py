"""Deployment `alerts`: the life of alerts. One replica."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import AlertState, AlertView, RoutingRow
from fleetcast.risk.assess import Risk
from fleetcast.store.engine import open_store
from fleetcast.store.leases import Lease
from serve_app.arguments import AppArgs


class Alerts:
    """Turns the risks of each cycle into alerts, and lets people act on them."""

    def __init__(self, args: AppArgs, upstreams: Mapping[str, Sequence[str]]) -> None:
        self._clock = args.clock.build()
        self._routing = Routing.load(args.alerts.routing, args.alerts.shadow)
        fleet = FleetMap.load(args.alerts.fleet, upstreams)
        self._engine = AlertEngine(open_store(args.database), args.alerts, self._routing, fleet)
        self._one_at_a_time = asyncio.Lock()

    async def observe(
        self, risks: Sequence[Risk], now: datetime, maintenance: frozenset[str], lease: Lease
    ) -> list[AlertView]:
        """Take in a cycle's risks; returns the incidents that are live after it.

        Raises `LeaseLostError` when another watcher has taken over.
        """
        async with self._one_at_a_time:
            await asyncio.to_thread(self._engine.observe, risks, now, maintenance, lease)
            return await asyncio.to_thread(self._engine.live)

    async def newest(self, state: AlertState | None, limit: int) -> list[AlertView]:
        """The newest alerts."""
        return await asyncio.to_thread(self._engine.list_alerts, state, limit)

    async def routing(self) -> list[RoutingRow]:
        """Who is told what, by level."""
        return self._routing.matrix()

    async def acknowledge(self, alert_id: int, by: str) -> AlertView:
        """Somebody takes care of the alert. Raises `NotFoundError`, `ConflictError`."""
        return await asyncio.to_thread(self._engine.acknowledge, alert_id, by, self._clock.now())

    async def resolve(self, alert_id: int, by: str) -> AlertView:
        """Somebody says that it is over. Raises `NotFoundError`, `ConflictError`."""
        return await asyncio.to_thread(self._engine.resolve, alert_id, by, self._clock.now())
