"""Deployment `history`: the samples, durable in the database and at hand in memory. One replica."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import ServiceError
from fleetcast.sources.prometheus.relabel import Relabeller
from fleetcast.store.engine import Store, open_store
from fleetcast.store.host_labels import Labels, save_host_labels
from fleetcast.store.maintenance import MaintenanceWindow, load_maintenance, plan_maintenance
from fleetcast.store.quarantine import Refused, add_refused, newest_refused
from fleetcast.store.samples import newest_timestamp, read_samples
from fleetcast.windows.arrays import FleetArrays
from serve_app.arguments import AppArgs
from serve_app.commits import Commits, Stored, no_room
from serve_app.completion import completed
from serve_app.intake import Checked, moment_of
from serve_app.puller import Puller
from serve_app.receiver import Receiver
from serve_app.ring import NEVER, Ring
from serve_app.schedule import STEP
from serve_app.schemas import ServerHistory, SourceInfo, Trends
from serve_app.trends import server_history, trends
from serve_app.upkeep import Upkeep

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class HistoryInfo:
    """Number of servers that have samples in memory, and the newest sample."""

    servers: int
    newest: datetime | None
    sources: list[SourceInfo] = field(default_factory=list)


@dataclass(frozen=True)
class HistoryCounts:
    """What came in: samples since this history began that were new or replaced one, and all values ever refused."""

    servers: int
    newest: datetime | None
    inserted: int
    replaced: int
    refused: int


class History:
    """Commits samples to the database before it acknowledges them and keeps the last hours as dense arrays.

    At its start it reloads those hours from the database, so that a killed replica comes back with all that was
    acknowledged. `steps` grid times are kept at hand (`span.kept_steps`).
    """

    def __init__(self, args: AppArgs, timezone: str, steps: int) -> None:
        self._args, self._clock = args, args.clock.build()
        self._store = open_store(args.database)
        self._ring = Ring(steps, timezone)
        self._commits = Commits(self._store, self._ring, args.service.max_servers)
        self._upkeep = Upkeep(self._store, self._ring, timedelta(hours=args.service.retention_hours))
        self._planning = asyncio.Lock()
        self._inserted = self._replaced = 0
        self._maintenance = _planned(self._store, args.dataset)
        self._load()
        self._noted: dict[str, Mapping[str, str]] = {}
        self._sent_by = Relabeller(args.prometheus.relabel, args.prometheus.keep_labels)
        self._receiver = Receiver(
            self._store,
            self._clock,
            self._sent_by,
            timedelta(hours=args.service.retention_hours),
            args.service.max_servers,
            self._take_sent,
        )
        self._puller = self._started_puller()

    async def check_health(self) -> None:
        """Raise when a loop in the background has ended, so that Serve starts a new replica."""
        if not self._receiver.is_running or (self._puller is not None and not self._puller.is_running):
            raise ServiceError("reading of Prometheus or rolling up what it sent has ended")

    async def add(self, table: pa.Table) -> Stored:
        """Store checked rows (`intake.check_rows`); they are durable when this returns.

        A row without a profile keeps the one its server has, else its host name tells. Rows of new servers for which
        there is no room (`max_servers`) are left out and their servers named in the answer.
        Raises `StorageFullError` and `StoreError` when nothing was stored.
        """
        stored = await self._commits.add(table)
        self._inserted += stored.inserted
        self._replaced += stored.replaced
        self._upkeep.after_commit(self._clock.now())
        return stored

    async def receive(self, raw: pa.Table) -> None:
        """Keep raw samples of remote write; durable when this returns, samples when their step is over."""
        await self._receiver.receive(raw)

    async def window(self, origin: datetime, steps: int) -> FleetArrays:
        """All servers over the `steps` grid times (no more than are kept) up to `origin`, and planned maintenance."""
        fleet = self._ring.window(int(origin.timestamp()), min(steps, self._ring.steps))
        return replace(fleet, maintenance=self._maintenance)

    async def window_of(self, server: str, origin: datetime, steps: int) -> FleetArrays | None:
        """The same of one server; None for a server without samples."""
        if self._ring.profile_of(server) is None:
            return None
        fleet = self._ring.window(int(origin.timestamp()), min(steps, self._ring.steps), [server])
        return replace(fleet, maintenance=self._maintenance)

    async def info(self) -> HistoryInfo:
        """How much there is."""
        newest = self._ring.newest
        sources = [] if self._puller is None else [self._puller.info()]
        return HistoryInfo(len(self._ring), None if newest == NEVER else moment_of(newest), sources)

    async def counts(self) -> HistoryCounts:
        """What came in. Raises `StoreError`."""
        info = await self.info()
        refused = await asyncio.to_thread(self._refused)
        return HistoryCounts(info.servers, info.newest, self._inserted, self._replaced, refused)

    async def of_server(self, server: str, hours: float) -> ServerHistory | None:
        """The last hours of one server; None for a server without samples."""
        if self._ring.profile_of(server) is None:
            return None
        fleet = self._ring.window(self._newest(), _steps(hours, self._ring.steps), [server])
        return server_history(replace(fleet, maintenance=self._maintenance))

    async def trends(self, metric: str, hours: float) -> Trends:
        """The last hours of one metric by profile."""
        return trends(self._ring.window(self._newest(), _steps(hours, self._ring.steps)), metric)

    async def plan(self, window: MaintenanceWindow, by: str) -> int:
        """Announce maintenance; returns how many windows are planned. Durable when this returns."""
        async with self._planning:
            await asyncio.to_thread(self._write_plan, window, by)
            self._maintenance = await asyncio.to_thread(_planned, self._store, self._args.dataset)
        return int(self._maintenance.num_rows)

    async def _take(self, checked: Checked, sender: str) -> Stored:
        """Store what a source gave; what was refused goes to the quarantine."""
        stored = await self.add(checked.table)
        await self._note_labels()
        refused = checked.without(stored.refused, no_room(self._args.service.max_servers)) if stored.refused else None
        if refused := refused or checked.quarantined:
            await asyncio.to_thread(self._quarantine, sender, [Refused(**value.model_dump()) for value in refused])
        return stored

    async def _take_sent(self, checked: Checked, sender: str) -> Stored:
        """The same for rows of which a part may have come before."""
        return await self._take(replace(checked, table=completed(checked.table, self._ring)), sender)

    async def _note_labels(self) -> None:
        """Keep what the sources tell of the labels of servers that are here, where it is new."""
        seen = self._sent_by.taken_labels() | (self._puller.taken_labels() if self._puller is not None else {})
        new = {
            server: labels
            for server, labels in seen.items()
            if self._noted.get(server) != labels and self._ring.profile_of(server) is not None
        }
        if new:
            await asyncio.to_thread(self._write_labels, new)
            self._noted |= new

    def _write_labels(self, labels: Labels) -> None:
        with self._store.session() as session:
            save_host_labels(session, labels, set(self._ring.servers))

    def _refused(self) -> int:
        with self._store.reading() as session:
            return newest_refused(session)

    def _quarantine(self, sender: str, refused: list[Refused]) -> None:
        with self._store.session() as session:
            add_refused(session, self._clock.now(), sender, refused, self._args.service.quarantine_rows)

    def _started_puller(self) -> Puller | None:
        if not self._args.prometheus.url:
            return None
        kept = timedelta(hours=self._args.service.retention_hours)
        puller = Puller(self._args.prometheus, self._store, self._clock, kept, self._take)
        puller.start()
        return puller

    def _newest(self) -> int:
        return max(self._ring.newest, STEP_SECONDS)

    def _load(self) -> None:
        now = int(self._clock.now().timestamp())
        count = 0
        refused: set[str] = set()
        with self._store.reading() as session:
            newest = newest_timestamp(session)
            since = min(now, now if newest is None else newest) - self._ring.steps * STEP_SECONDS
            for table in read_samples(session, since, now):  # later ones are of a clock that was ahead of this one
                kept, outside = self._commits.admitted(table)
                refused |= outside
                self._ring.put(kept)
                count += kept.num_rows
        if refused:
            logger.warning("%d stored servers are left out: %s", len(refused), no_room(self._args.service.max_servers))
        logger.info("loaded %d samples of %d servers", count, len(self._ring))

    def _write_plan(self, window: MaintenanceWindow, by: str) -> None:
        with self._store.session() as session:
            plan_maintenance(session, window, by, self._clock.now())


def _planned(store: Store, dataset: str | None) -> pa.Table:
    """Windows of the dataset and those that operators announced."""
    with store.reading() as session:
        announced = load_maintenance(session)
    rows = [{"server": window.server, "start": window.start, "end": window.end} for window in announced]
    table = pa.Table.from_pylist(rows, schema=MAINTENANCE)
    return table if dataset is None else pa.concat_tables([Dataset.open(dataset).maintenance(), table])


def _steps(hours: float, most: int) -> int:
    return int(np.clip(math.ceil(timedelta(hours=hours) / STEP), 1, most))
