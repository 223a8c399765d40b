"""Who may do what only one may do: a lease in the database, with a number that grows with every holder.

The holder beats; who wants the lease watches the beats and takes it when they stop. Nobody compares clocks. A holder
that was taken for dead and is not finds out at its next write: `require_lease` in the same transaction refuses the
older number (a fencing token; M. Kleppmann, How to do distributed locking, 2016).
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy.orm import Session

from fleetcast.errors import LeaseLostError
from fleetcast.store.tables import LeaseTable


class Lease(NamedTuple):
    """A lease as somebody holds or held it; `fence` grows by one with every holder."""

    name: str
    holder: str
    fence: int


class Sighting(NamedTuple):
    """What an onlooker sees of a lease; as long as `beat` changes the holder lives. A free one has no holder."""

    lease: Lease
    beat: int


def see_lease(session: Session, name: str) -> Sighting | None:
    """The lease as it is now; None when nobody ever held it."""
    row = session.get(LeaseTable, name)
    return None if row is None else Sighting(Lease(row.name, row.holder, row.fence), row.beat)


def take_lease(session: Session, name: str, holder: str, seen: Sighting | None) -> Lease | None:
    """Take the lease, if it is still as it was seen; None when somebody was quicker or the holder has beaten."""
    row = session.get(LeaseTable, name, with_for_update=True)
    if row is None:
        session.add(LeaseTable(name=name, holder=holder, fence=1, beat=0))
        return Lease(name, holder, 1)
    if seen is None or (row.fence, row.beat) != (seen.lease.fence, seen.beat):
        return None
    row.holder, row.fence, row.beat = holder, row.fence + 1, 0
    return Lease(name, holder, row.fence)


def beat_lease(session: Session, lease: Lease) -> None:
    """Say that the holder lives. Raises `LeaseLostError`."""
    require_lease(session, lease).beat += 1


def release_lease(session: Session, lease: Lease) -> None:
    """Let go of the lease, so that the next one need not wait. Raises `LeaseLostError`."""
    require_lease(session, lease).holder = ""


def require_lease(session: Session, lease: Lease) -> LeaseTable:
    """The row of the lease, locked until the transaction ends.

    Raises `LeaseLostError` when it was taken over, so that nothing of this transaction is written.
    """
    row = session.get(LeaseTable, lease.name, with_for_update=True)
    if row is None or row.fence != lease.fence:
        now = "nobody" if row is None else f"{row.holder} with number {row.fence}"
        raise LeaseLostError(f"{lease.holder} holds {lease.name} with number {lease.fence} no more, but {now} does")
    return row
