"""Group commit: requests that wait for the disk at the same time share one transaction."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy.orm import Session

from fleetcast.contract.vocabulary import profile_from_host
from fleetcast.store.engine import Store
from fleetcast.store.samples import append_samples, read_samples, seconds_of
from serve_app.ring import Ring, encoded

_REQUEST = "request"
_KEY_BITS = 34


@dataclass(frozen=True)
class Stored:
    """Rows that were not there before, rows that replaced one with the same server and time, servers not let in."""

    inserted: int
    replaced: int
    refused: frozenset[str] = frozenset()


@dataclass
class _Waiting:
    table: pa.Table
    answer: asyncio.Future[Stored]


class Commits:
    """Writes samples to the database, then lays them into the ring, then answers: in this order, one group at a time.

    While a group is on its way to the disk the next one gathers.
    """

    def __init__(self, store: Store, ring: Ring, max_servers: int) -> None:
        self._store, self._ring, self._max_servers = store, ring, max_servers
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def add(self, table: pa.Table) -> Stored:
        """Store rows; durable when this returns. Raises `StoreError` when the database refuses the group."""
        if not table.num_rows:
            return Stored(0, 0)
        waiting = _Waiting(table, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.answer

    def admitted(self, table: pa.Table) -> tuple[pa.Table, frozenset[str]]:
        """The rows of servers that are here or find room, and the names of the other servers."""
        names = encoded(table["server"]).dictionary.to_pylist()
        new = [name for name in names if self._ring.profile_of(name) is None]
        if len(self._ring) + len(new) > self._max_servers:
            self._ring.drop_silent()
            new = [name for name in names if self._ring.profile_of(name) is None]
        refused = frozenset(new[max(0, self._max_servers - len(self._ring)) :])
        if not refused:
            return table, refused
        outside = pc.is_in(table["server"].cast(pa.string()), value_set=pa.array(sorted(refused), pa.string()))
        return table.filter(pc.invert(outside)), refused

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                answers = await self._commit([waiting.table for waiting in group])
            except Exception as error:
                for waiting in group:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(group, answers, strict=True):
                if not waiting.answer.done():  # whoever asked may have gone
                    waiting.answer.set_result(answer)

    async def _commit(self, tables: list[pa.Table]) -> list[Stored]:
        numbered = [
            table.append_column(_REQUEST, pa.array(np.full(table.num_rows, number)))
            for number, table in enumerate(tables)
        ]
        whole = pa.concat_tables(numbered, promote_options="permissive")
        table, refused = self.admitted(whole)
        outside = [
            refused & set(encoded(one["server"]).dictionary.to_pylist()) if refused else refused for one in tables
        ]
        if not table.num_rows:
            return [Stored(0, 0, names) for names in outside]
        requests = np.asarray(table[_REQUEST])
        table = self._with_profiles(table.drop_columns([_REQUEST]))
        there = await asyncio.to_thread(self._write, table)
        self._ring.put(table)
        rows = np.bincount(requests, minlength=len(tables))
        replaced = np.bincount(requests[there], minlength=len(tables))
        return [
            Stored(int(all_of - old), int(old), names)
            for all_of, old, names in zip(rows, replaced, outside, strict=True)
        ]

    def _write(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Commit the rows; returns which of them replace a sample."""
        servers, seconds = encoded(table["server"]), seconds_of(table)
        keys = (np.asarray(servers.indices, dtype=np.int64) << _KEY_BITS) | seconds
        _, first = np.unique(keys, return_index=True)
        there = np.ones(len(keys), dtype=bool)
        there[first] = False
        there |= self._ring.has(servers.dictionary.to_pylist(), np.asarray(servers.indices), seconds)
        with self._store.session() as session:
            old = ~self._ring.holds(seconds)
            if old.any():
                there[old] |= _stored(session, pc.take(servers, pa.array(np.flatnonzero(old))), seconds[old])
            append_samples(session, table)
        return there

    def _with_profiles(self, table: pa.Table) -> pa.Table:
        servers = encoded(table["server"])
        known = [self._ring.profile_of(name) or profile_from_host(name) for name in servers.dictionary.to_pylist()]
        otherwise = pa.array(known, pa.string()).take(servers.indices)
        profiles = pc.coalesce(table["profile"].cast(pa.string()).combine_chunks(), otherwise)
        return table.set_column(table.schema.get_field_index("profile"), "profile", profiles)


def _stored(session: Session, servers: pa.Array, seconds: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which of these samples the database has; for those that are too old to be in memory."""
    known: set[tuple[str, int]] = set()
    names, times = pc.unique(servers.cast(pa.string())), pa.array(np.unique(seconds))
    for table in read_samples(session, int(seconds.min()), int(seconds.max())):
        servers_of, seconds_there = table["server"].cast(pa.string()), pa.chunked_array([seconds_of(table)])
        wanted = pc.and_(pc.is_in(servers_of, names), pc.is_in(seconds_there, times))
        pairs = (servers_of.filter(wanted).to_pylist(), seconds_there.filter(wanted).to_pylist())
        known |= set(zip(*pairs, strict=True))
    rows = zip(servers.cast(pa.string()).to_pylist(), seconds.tolist(), strict=True)
    return np.array([row in known for row in rows], dtype=bool)


def no_room(most: int) -> str:
    """The rule that a row of one server too many breaks."""
    return f"is one of at most {most} servers that the service keeps (max_servers)"
