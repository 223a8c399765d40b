"""The live source: reads a Prometheus step by step, waits longer while it is away, and fills the gap afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from fleetcast.clock import STEP_SECONDS, Clock, floor_to_step
from fleetcast.errors import SourceError
from fleetcast.settings import PrometheusSettings
from fleetcast.sources.prometheus.client import PrometheusClient
from fleetcast.sources.prometheus.pull import Pull
from fleetcast.store.engine import Store
from fleetcast.store.marks import read_mark, set_mark
from serve_app.intake import Checked, against_contract, moment_of
from serve_app.schemas import SourceInfo

logger = logging.getLogger("ray.serve")

NAME = "prometheus"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0

Take = Callable[[Checked, str], Awaitable[object]]


class Puller:
    """Hands every whole step that Prometheus has to `take`, in order; the mark in the database says how far it is.

    A mark moves only after its samples are durable: after a kill the last span is read again, which counts once.
    """

    def __init__(self, settings: PrometheusSettings, store: Store, clock: Clock, kept: timedelta, take: Take) -> None:
        """`kept` is how long samples are stored. Raises `UsageError` for settings that cannot be used."""
        self._settings, self._store, self._clock, self._kept, self._take = settings, store, clock, kept, take
        self._client = PrometheusClient(settings)
        self._pull = Pull(self._client, settings)
        self._read: int | None = None
        self._error: str | None = None
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop().create_task(self._run())

    @property
    def is_running(self) -> bool:
        """Whether the loop goes on."""
        return self._loop is None or not self._loop.done()

    def info(self) -> SourceInfo:
        """How far it is and what is wrong."""
        read = None if self._read is None else moment_of(self._read)
        return SourceInfo(name=self._client.name, read=read, error=self._error)

    def taken_labels(self) -> dict[str, dict[str, str]]:
        """The labels that alerts carry, of the servers read since the last call."""
        return self._pull.taken_labels()

    async def step(self) -> bool:
        """Read the next span; False when there is nothing to read yet. Raises `SourceError` and `StoreError`."""
        if self._read is None:
            self._read = await asyncio.to_thread(self._begin)
        first, last = self._read + STEP_SECONDS, self._last_whole()
        first = max(first, int(floor_to_step(self._clock.now() - self._kept).timestamp()) + STEP_SECONDS)
        if first > last:
            return False
        until = min(last, first + STEP_SECONDS * (self._pull.chunk_steps - 1))
        checked = await asyncio.to_thread(self._ask, first, until)
        await self._take(checked, NAME)
        await asyncio.to_thread(self._note, until)
        self._read = until
        return True

    async def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                more = await self.step()
            except Exception as error:
                if self._error is None:
                    log = logger.warning if isinstance(error, SourceError) else logger.exception
                    log("samples of Prometheus are not read, tries go on: %s", error)
                self._error = str(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            if self._error is not None:
                logger.info("Prometheus answers again; read up to %s", self.info().read)
            self._error, pause = None, FIRST_PAUSE_S
            if not more:
                await asyncio.sleep(min(5.0, max(0.05, self._clock.sleep_seconds(self._next_due()))))

    def _begin(self) -> int:
        with self._store.reading() as session:
            mark = read_mark(session, NAME)
        back = timedelta(hours=self._settings.backfill_hours)
        return mark if mark is not None else int(floor_to_step(self._clock.now() - back).timestamp())

    def _ask(self, first: int, last: int) -> Checked:
        table: pa.Table = self._pull.read(first, last)
        return against_contract(table, np.arange(table.num_rows), [])

    def _note(self, at: int) -> None:
        with self._store.session() as session:
            set_mark(session, NAME, at)

    def _last_whole(self) -> int:
        ready = self._clock.now() - timedelta(seconds=self._settings.delay_s)
        return int(floor_to_step(ready).timestamp()) - STEP_SECONDS

    def _next_due(self) -> datetime:
        return moment_of(self._last_whole() + 2 * STEP_SECONDS) + timedelta(seconds=self._settings.delay_s)
