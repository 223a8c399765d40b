"""Who carries out a plan: one process at a time, seen by its beats (`fleetcast.store.leases`).

A process that is known to have ended, because it ran on this machine, is followed at once; any other one when it has
not beaten for a while.

A process that was taken for dead and wakes up finds out before its next action: it does not begin one when it has not
beaten for as long as others wait, and the database refuses what it writes.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType

from sqlalchemy.orm import Session

from fleetcast.errors import ConflictError, LeaseLostError, StoreError
from fleetcast.store.engine import Store
from fleetcast.store.leases import Lease, beat_lease, release_lease, see_lease, take_lease
from fleetcast.store.tables_remediation import PlanTable

BEATS = 5  # in the time that others wait


def claim(store: Store, plan_id: int, takeover_s: float) -> Lease:
    """The lease of a plan, taken over when its holder gives no sign of life for `takeover_s` seconds.

    Raises `ConflictError` when somebody carries the plan out now.
    """
    name, holder = f"plan/{plan_id}", f"{_process(os.getpid())} {uuid.uuid4().hex[:8]}"
    with store.session() as session:
        session.get(PlanTable, plan_id, with_for_update=True)  # so that one at a time looks and takes
        seen = see_lease(session, name)
        if seen is None or not seen.lease.holder or _has_ended(seen.lease.holder):
            lease = take_lease(session, name, holder, seen)
            if lease is not None:
                return lease
    time.sleep(takeover_s)
    with store.session() as session:
        lease = take_lease(session, name, holder, seen)
    if lease is None:
        now = seen.lease.holder if seen is not None else "another process"
        raise ConflictError(f"plan {plan_id} is being carried out by {now}")
    return lease


class Heart:
    """Beats for a lease in the background while its holder works; the lease is free after it."""

    def __init__(self, store: Store, lease: Lease, takeover_s: float) -> None:
        self._store, self.lease, self._takeover_s = store, lease, takeover_s
        self._beaten = time.monotonic()  # before what was written then, so that it is never later than others see
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=lease.name, daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if kind is None or issubclass(kind, Exception):
            self._release()

    def beat(self, session: Session) -> None:
        """Beat in a transaction of the work. Raises `LeaseLostError`."""
        before = time.monotonic()
        beat_lease(session, self.lease)
        self._beaten = before

    def require(self) -> None:
        """Raise `LeaseLostError` when others may take this process for dead."""
        if time.monotonic() - self._beaten > self._takeover_s * (BEATS - 1) / BEATS:
            raise LeaseLostError(f"{self.lease.holder} has not beaten for too long: another one may carry out the plan")

    def _beat(self) -> None:
        while not self._end.wait(self._takeover_s / BEATS):
            try:
                with self._store.session() as session:
                    self.beat(session)
            except LeaseLostError:
                return
            except StoreError:
                continue  # `require` refuses when this goes on for too long

    def _release(self) -> None:
        try:
            with self._store.session() as session:
                release_lease(session, self.lease)
        except LeaseLostError:
            return


def _process(number: int) -> str:
    """A name of a process that no other ever has: its machine since it was started, its view of processes, its start.

    Without /proc only a name of the machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        space = os.stat("/proc/self/ns/pid").st_ino
        start = Path(f"/proc/{number}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return f"{platform.node()}/{number}"
    return f"{platform.node()}/{boot}/{space}/{number}/{start}"


def _has_ended(holder: str) -> bool:
    """Whether a holder is a process that ran here and is no more."""
    parts = holder.split(" ", maxsplit=1)[0].split("/")
    here = _process(os.getpid()).split("/")
    if len(parts) != len(here) or len(here) < 5 or parts[:3] != here[:3]:
        return False
    return _process(int(parts[3])).split("/") != parts
