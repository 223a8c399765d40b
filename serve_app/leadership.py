"""One of several at a time: takes the lease when it is free or its holder is dead, and beats while it holds it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleetcast.errors import LeaseLostError, StoreError
from fleetcast.store.engine import Store
from fleetcast.store.leases import Lease, Sighting, beat_lease, release_lease, see_lease, take_lease
from serve_app.processes import identity, is_gone

logger = logging.getLogger("ray.serve")

LEASE_S = 10.0
"""A holder that has not been seen to beat for so long is dead; one that could not beat for so long says so itself."""
BEAT_S = LEASE_S / 4
PAUSE_S = 0.2


class Leadership:
    """This process's part in a lease.

    A holder of this machine whose process is gone is followed at once, any other after `lease_s` without a beat, by
    the clock of who waits.
    """

    def __init__(self, store: Store, name: str, holder: str | None = None, lease_s: float = LEASE_S) -> None:
        self._store, self._name, self._lease_s = store, name, lease_s
        self._holder = holder or identity()
        self._one_at_a_time = threading.Lock()
        self._over = False
        self._lease: Lease | None = None
        self._beaten = 0.0
        self._seen: tuple[Sighting, float] | None = None

    @property
    def lease(self) -> Lease | None:
        """The lease, while this process holds it."""
        held = self._lease is not None and time.monotonic() - self._beaten < self._lease_s
        return self._lease if held else None

    async def run(self) -> None:
        """Take the lease, keep it, take it again, for ever."""
        while True:
            await asyncio.to_thread(self.turn)
            await asyncio.sleep(min(BEAT_S, self._lease_s / 4))

    def turn(self) -> None:
        """One beat or one attempt; what the database refuses is tried again at the next turn."""
        now = time.monotonic()
        try:
            with self._one_at_a_time:
                if self._lease is not None:
                    self._beat(self._lease, now)
                elif not self._over:
                    self._attempt(now)
        except LeaseLostError as error:
            self._lease = None
            logger.warning("%s", error)
        except StoreError as error:
            logger.warning("the lease %s could not be renewed, next try follows: %s", self._name, error)

    def release(self) -> None:
        """Let go for good, so that the next one need not wait. Raises `LeaseLostError` and `StoreError`."""
        with self._one_at_a_time:
            self._over = True
            lease, self._lease = self._lease, None
            if lease is not None:
                with self._store.session() as session:
                    release_lease(session, lease)

    def _beat(self, lease: Lease, now: float) -> None:
        with self._store.session() as session:
            beat_lease(session, lease)
        self._beaten = now

    def _attempt(self, now: float) -> None:
        with self._store.reading() as session:
            seen = see_lease(session, self._name)
        if seen is not None and not self._is_free(seen, now):
            return
        with self._store.session() as session:
            self._lease = take_lease(session, self._name, self._holder, seen)
        if self._lease is not None:
            self._beaten, self._seen = now, None
            logger.info("%s holds the lease %s with number %d", self._holder, self._name, self._lease.fence)

    def _is_free(self, seen: Sighting, now: float) -> bool:
        if not seen.lease.holder or is_gone(seen.lease.holder):
            return True
        if self._seen is None or self._seen[0] != seen:
            self._seen = (seen, now)
        return now - self._seen[1] >= self._lease_s


@asynccontextmanager
async def one_at_a_time(store: Store, name: str) -> AsyncIterator[None]:
    """Hold the lease of this name while the context is open; waits for whoever has it."""
    leadership = Leadership(store, name)
    beating = asyncio.create_task(leadership.run())
    try:
        while leadership.lease is None:
            await asyncio.sleep(PAUSE_S)
        yield
    finally:
        beating.cancel()
        try:
            await asyncio.to_thread(leadership.release)
        except StoreError as error:
            logger.warning("the lease %s was not given back: %s", name, error)
