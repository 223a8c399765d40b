"""Raw samples that are sent by remote write, durable at once, rolled up when their step is over."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.clock import STEP_SECONDS, Clock
from fleetcast.sources.prometheus.raw import (
    RAW,
    Cell,
    cells_of,
    hosts_of,
    joined,
    of_samples,
    still_needed,
    without_hosts,
)
from fleetcast.sources.prometheus.relabel import Relabeller
from fleetcast.sources.prometheus.rollup import nothing_rolled, roll_up_raw
from fleetcast.store.engine import Store
from fleetcast.store.raw import append_raw, checkpoint_raw, load_raw
from serve_app.commits import no_room
from serve_app.intake import MAX_NAME, Checked, Span, against_contract
from serve_app.schemas import QuarantinedValue

logger = logging.getLogger("ray.serve")

NAME = "remote write"
EVERY_S = 2.0
GRACE_S = 20
QUIET_S = 120  # while more may come of a step: a backlog's series are sent side by side, not all at the same pace
FORGOTTEN = timedelta(hours=2)
TOLD = 100  # hosts without room that are named at a time
_OPEN = b"open"

Take = Callable[[Checked, str], Awaitable[object]]


class Receiver:
    """Keeps raw samples until their cells are final; what it keeps is in the database too.

    A cell is rolled up `GRACE_S` after its end, and again when samples of it come later: with all of it that came while
    no `QUIET_S` passed without any. Of what has become final, two steps and the sample before them stay, so that the
    next step has something to count from. A restart goes on with the raw samples of the database, as if nothing had
    happened.
    """

    def __init__(
        self, store: Store, clock: Clock, relabeller: Relabeller, kept: timedelta, most_hosts: int, take: Take
    ) -> None:
        self._store, self._clock, self._relabeller, self._kept, self._take = store, clock, relabeller, kept, take
        self._most_hosts, self._hosts, self._refused = most_hosts, set[str](), set[str]()
        self._raw = RAW.empty_table()
        self._fresh: list[pa.Table] = []
        self._open: set[Cell] = set()
        self._heard: dict[Cell, float] = {}  # of cells that more may come of: when the last came
        self._changing = asyncio.Lock()
        self._waiting: list[tuple[pa.Table, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._load()
        self._loop = asyncio.get_running_loop().create_task(self._run())

    @property
    def is_running(self) -> bool:
        """Whether the loop goes on."""
        return not self._loop.done()

    async def receive(self, raw: pa.Table) -> None:
        """Keep samples (`RAW`); durable when this returns. Raises `StoreError`.

        Those out of time are left out, and those of new hosts for which there is no room (told in the quarantine).
        """
        span = Span.at(self._clock.now(), self._kept)
        timely = pc.and_(pc.greater_equal(raw["ms"], 1000 * span.oldest), pc.less_equal(raw["ms"], 1000 * span.latest))
        raw = self._admitted(joined([raw.filter(timely)]))
        if not raw.num_rows:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((raw, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())
        await done

    def _note(self, cells: set[Cell]) -> None:
        self._open |= cells
        self._heard.update(dict.fromkeys(cells, self._clock.now().timestamp()))

    def _admitted(self, raw: pa.Table) -> pa.Table:
        """The samples of hosts that are known or find room."""
        new = [host for host in hosts_of(raw) if host not in self._hosts]
        room = max(0, self._most_hosts - len(self._hosts))
        self._hosts.update(new[:room])
        self._refused.update(new[room:][: TOLD + 1 - len(self._refused)])
        return without_hosts(raw, set(new[room:])) if new[room:] else raw

    async def _tell_refused(self) -> None:
        """Hosts for which there was no room since the last time, into the quarantine."""
        told, rule = sorted(self._refused)[:TOLD], no_room(self._most_hosts)
        entries = [
            QuarantinedValue(row=row, server=None, timestamp=None, column="server", value=host[:MAX_NAME], rule=rule)
            for row, host in enumerate(told)
        ]
        if len(self._refused) > TOLD:
            logger.warning("more than %d new hosts of remote write found no room: only so many are named", TOLD)
        await self._take(Checked(nothing_rolled(), np.arange(0), entries), NAME)
        self._refused.clear()

    async def _write(self) -> None:
        """Store what waits, those that wait at the same time together; in a task of its own, as a sender may leave."""
        while self._waiting:
            async with self._changing:
                group, self._waiting = self._waiting, []
                try:
                    whole = joined([one for one, _ in group])
                    await asyncio.to_thread(self._append, whole)
                except Exception as error:
                    for _, done in group:
                        if not done.done():
                            done.set_exception(error)
                    continue
                self._fresh.append(whole)
                self._note(cells_of(whole))
            for _, done in group:
                if not done.done():
                    done.set_result(None)

    async def roll(self) -> int:
        """Roll up the cells that are over; returns how many rows came of it."""
        now = int(self._clock.now().timestamp())
        due = {cell for cell in self._open if cell[1] + STEP_SECONDS + GRACE_S <= now}
        if not due:
            return 0
        raw, read = self._all(), len(self._fresh)
        checked = await asyncio.to_thread(self._rolled, raw, due)
        if checked.table.num_rows or checked.quarantined:
            await self._take(checked, NAME)
        async with self._changing:
            late = cells_of(joined(self._fresh[read:])) if self._fresh[read:] else set()
            self._open = (self._open - due) | late
            raw = self._all()
            kept = await asyncio.to_thread(self._trimmed, raw, now)
            await asyncio.to_thread(self._checkpoint, kept)
            waiting = [host for one, _ in self._waiting for host in hosts_of(one)]
            self._raw, self._fresh, self._hosts = kept, [], {*hosts_of(kept), *waiting}
        if self._refused:
            await self._tell_refused()
        return int(checked.table.num_rows)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.roll()
            except Exception:
                logger.exception("samples of remote write were not rolled up, next try follows")

    def _all(self) -> pa.Table:
        return joined([self._raw, *self._fresh])

    def _append(self, raw: pa.Table) -> None:
        with self._store.session() as session:
            append_raw(session, raw)

    def _rolled(self, raw: pa.Table, due: set[Cell]) -> Checked:
        hosts: dict[int, set[str]] = defaultdict(set)
        for host, cell in due:
            hosts[cell].add(host)
        tables = [roll_up_raw(raw, cell, hosts[cell], self._relabeller) for cell in sorted(hosts)]
        table = pa.concat_tables(tables, promote_options="default")
        return against_contract(table, np.arange(table.num_rows), [])

    def _trimmed(self, raw: pa.Table, now: int) -> pa.Table:
        """What a later step can read (`still_needed`), and what more may come of."""
        self._heard = {cell: at for cell, at in self._heard.items() if at > now - QUIET_S}
        opened = dict[str, int]()
        for host, cell in (*self._open, *self._heard):
            opened[host] = min(opened.get(host, cell), cell)
        return of_samples(raw, still_needed(raw, opened, now - int(FORGOTTEN.total_seconds())))

    def _checkpoint(self, kept: pa.Table) -> None:
        noted = {_OPEN: json.dumps(sorted(self._open)).encode()}
        with self._store.session() as session:
            checkpoint_raw(session, kept.replace_schema_metadata(noted))

    def _load(self) -> None:
        with self._store.reading() as session:
            for found in load_raw(session):
                table, noted = joined([found]), (found.schema.metadata or {}).get(_OPEN)
                self._note(cells_of(table))
                if noted is not None:
                    self._open = {(host, cell) for host, cell in json.loads(noted)}
                self._fresh.append(table)
                self._hosts.update(hosts_of(table))
