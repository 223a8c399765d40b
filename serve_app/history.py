"""Deployment `history`: the samples, durable in the database and at hand in memory. One replica."""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import STEP_SECONDS, profile_from_host
from fleetcast.dataset.reader import Dataset
from fleetcast.store.engine import Store, open_store
from fleetcast.store.maintenance import MaintenanceWindow, load_maintenance, plan_maintenance
from fleetcast.store.samples import SampleRow, delete_samples_before, load_samples, upsert_samples
from fleetcast.windows.arrays import FleetArrays
from serve_app.arguments import AppArgs
from serve_app.intake import moment_of, table_of_samples
from serve_app.ring import NEVER, Ring
from serve_app.schedule import STEP
from serve_app.schemas import ServerHistory, Trends
from serve_app.trends import server_history, trends

logger = logging.getLogger("ray.serve")

LOAD_CHUNK = 50_000
PRUNE_EVERY = timedelta(hours=1)


@dataclass(frozen=True)
class Stored:
    """Rows that were not there before, rows that replaced one with the same server and time, servers not let in."""

    inserted: int
    replaced: int
    refused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class HistoryInfo:
    """Number of servers that have samples in memory, and the newest sample."""

    servers: int
    newest: datetime | None


class History:
    """Commits samples to the database before it acknowledges them and keeps the last hours as dense arrays.

    At its start it reloads those hours from the database, so that a killed replica comes back with all that was
    acknowledged. `steps` grid times are kept at hand (`span.kept_steps`).
    """

    def __init__(self, args: AppArgs, timezone: str, steps: int) -> None:
        self._args, self._clock = args, args.clock.build()
        self._store = open_store(args.database)
        self._ring = Ring(steps, timezone)
        self._writing = asyncio.Lock()
        self._pruned: datetime | None = None
        self._maintenance = _planned(self._store, args.dataset)
        self._load()

    async def add(self, table: pa.Table) -> Stored:
        """Store checked rows (`intake.check_rows`); they are durable when this returns.

        A row without a profile keeps the one its server has, else its host name tells. Rows of new servers for which
        there is no room (`max_servers`) are left out and their servers named in the answer.
        """
        async with self._writing:
            table, refused = self._admitted(table)
            if not table.num_rows:
                return Stored(0, 0, refused)
            table = self._with_profiles(table)
            stored = await asyncio.to_thread(self._commit, table)
            self._ring.put(table)
            await self._prune()
        return replace(stored, refused=refused)

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
        return HistoryInfo(len(self._ring), None if newest == NEVER else moment_of(newest))

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
        async with self._writing:
            await asyncio.to_thread(self._write_plan, window, by)
            self._maintenance = await asyncio.to_thread(_planned, self._store, self._args.dataset)
        return int(self._maintenance.num_rows)

    def _newest(self) -> int:
        return max(self._ring.newest, STEP_SECONDS)

    def _load(self) -> None:
        now = int(self._clock.now().timestamp())
        since = now - self._ring.steps * STEP_SECONDS
        rows: list[SampleRow] = []
        count = 0
        with self._store.reading() as session:
            for row in load_samples(session, since):
                if row.timestamp > now:
                    continue  # of a clock that was ahead of this one
                rows.append(row)
                if len(rows) == LOAD_CHUNK:
                    count, rows = count + self._lay_in(rows), []
        count += self._lay_in(rows)
        logger.info("loaded %d samples of %d servers", count, len(self._ring))

    def _lay_in(self, rows: list[SampleRow]) -> int:
        if not rows:
            return 0
        table, refused = self._admitted(table_of_samples(rows))
        if refused:
            logger.warning("%d stored servers are left out: %s", len(refused), no_room(self._args.service.max_servers))
        self._ring.put(table)
        return int(table.num_rows)

    def _admitted(self, table: pa.Table) -> tuple[pa.Table, frozenset[str]]:
        """The rows of servers that are here or find room, and the names of the other servers."""
        new = [name for name in pc.unique(table["server"]).to_pylist() if self._ring.profile_of(name) is None]
        most = self._args.service.max_servers
        if len(self._ring) + len(new) > most:
            self._ring.drop_silent()
        refused = frozenset(new[max(0, most - len(self._ring)) :])
        if not refused:
            return table, refused
        outside = pc.is_in(table["server"], value_set=pa.array(sorted(refused), pa.string()))
        return table.filter(pc.invert(outside)), refused

    def _with_profiles(self, table: pa.Table) -> pa.Table:
        profiles = [
            given or self._ring.profile_of(server) or profile_from_host(server)
            for server, given in zip(table["server"].to_pylist(), table["profile"].to_pylist(), strict=True)
        ]
        return table.set_column(table.schema.get_field_index("profile"), "profile", pa.array(profiles, pa.string()))

    def _commit(self, table: pa.Table) -> Stored:
        with self._store.session() as session:
            inserted, replaced = upsert_samples(session, samples_of_table(table))
        return Stored(inserted, replaced)

    def _write_plan(self, window: MaintenanceWindow, by: str) -> None:
        with self._store.session() as session:
            plan_maintenance(session, window, by, self._clock.now())

    async def _prune(self) -> None:
        now = self._clock.now()
        if self._pruned is not None and now - self._pruned < PRUNE_EVERY:
            return
        self._pruned = now
        self._ring.drop_silent()
        before = int((now - timedelta(hours=self._args.service.retention_hours)).timestamp())
        await asyncio.to_thread(self._delete_before, before)

    def _delete_before(self, before: int) -> None:
        with self._store.session() as session:
            deleted = delete_samples_before(session, before)
        if deleted:
            logger.info("deleted %d samples that were older than the retention", deleted)


def no_room(most: int) -> str:
    """The rule that a row of one server too many breaks."""
    return f"is one of at most {most} servers that the service keeps (max_servers)"


def samples_of_table(table: pa.Table) -> list[SampleRow]:
    """Rows of the database from a table of samples; metrics without a value are left out."""
    names = [name for name in table.schema.names if name in METRIC_NAMES]
    seconds = pc.cast(table["timestamp"], pa.int64()).to_pylist()
    columns = [table[name].to_pylist() for name in names]
    metrics: list[dict[str, float]] = [{} for _ in seconds]
    for name, values in zip(names, columns, strict=True):
        for found, value in zip(metrics, values, strict=True):
            if value is not None and not math.isnan(value):
                found[name] = value
    heads = zip(table["server"].to_pylist(), seconds, table["profile"].to_pylist(), metrics, strict=True)
    return [SampleRow(*head) for head in heads]


def _planned(store: Store, dataset: str | None) -> pa.Table:
    """Windows of the dataset and those that operators announced."""
    with store.reading() as session:
        announced = load_maintenance(session)
    rows = [{"server": window.server, "start": window.start, "end": window.end} for window in announced]
    table = pa.Table.from_pylist(rows, schema=MAINTENANCE)
    return table if dataset is None else pa.concat_tables([Dataset.open(dataset).maintenance(), table])


def _steps(hours: float, most: int) -> int:
    return int(np.clip(math.ceil(timedelta(hours=hours) / STEP), 1, most))
