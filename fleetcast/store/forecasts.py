"""What forecast cycles found, one row a cycle: the risks, and which file holds the forecasts.

The row is written last and makes the file count: a file without a row is what a crash left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from fleetcast.store.leases import Lease, require_lease
from fleetcast.store.tables import ForecastCycleTable


class StoredCycle(NamedTuple):
    """A cycle without its risks. `origin` is Unix seconds; `file` None when no forecasts are kept of it."""

    origin: int
    run: str
    digest: str
    servers: int
    file: str | None
    whole: bool


def save_cycle(session: Session, lease: Lease, cycle: StoredCycle, risks: bytes) -> str | None:
    """Keep a cycle; the same origin again replaces it. Returns the name of a file that no row names any more.

    Raises `LeaseLostError` when the lease was taken over: nothing is written then.
    """
    require_lease(session, lease)
    row = session.get(ForecastCycleTable, cycle.origin)
    replaced = None if row is None or row.file == cycle.file else row.file
    session.merge(ForecastCycleTable(**cycle._asdict(), fence=lease.fence, risks=risks))
    return replaced


def newest_cycle(session: Session, until: int) -> StoredCycle | None:
    """The last cycle from an origin up to `until` (included) whose forecasts are kept."""
    found = ForecastCycleTable
    query = _cycles().where(found.origin <= until, found.file.is_not(None)).order_by(found.origin.desc())
    row = session.execute(query.limit(1)).first()
    return None if row is None else StoredCycle._make(row)


def risks_between(session: Session, since: int, until: int) -> Iterator[tuple[int, bytes]]:
    """Origins from `since` up to `until` (both included), newest first, with their risks."""
    found = ForecastCycleTable
    query = (
        select(found.origin, found.risks)
        .where(found.origin >= since, found.origin <= until)
        .order_by(found.origin.desc())
        .execution_options(yield_per=16)
    )
    yield from session.execute(query)


def whole_before(session: Session, before: int, most: int) -> list[StoredCycle]:
    """The oldest cycles from origins before `before` whose forecasts are still kept whole."""
    found = ForecastCycleTable
    query = _cycles().where(found.origin < before, found.whole, found.file.is_not(None)).order_by(found.origin)
    return [StoredCycle._make(row) for row in session.execute(query.limit(most))]


def exchange_file(session: Session, lease: Lease, cycle: StoredCycle, file: str | None) -> None:
    """Let a cycle's row name the file with chosen horizons only. Raises `LeaseLostError`."""
    require_lease(session, lease)
    found = ForecastCycleTable
    session.execute(
        update(found).where(found.origin == cycle.origin, found.file == cycle.file).values(file=file, whole=False)
    )


def delete_cycles_before(session: Session, lease: Lease, before: int) -> list[str]:
    """Delete the cycles from origins before `before`; returns the files that they named. Raises `LeaseLostError`."""
    require_lease(session, lease)
    old = ForecastCycleTable.origin < before
    files = session.scalars(select(ForecastCycleTable.file).where(old)).all()
    session.execute(delete(ForecastCycleTable).where(old))
    return [file for file in files if file is not None]


def named_files(session: Session) -> set[str]:
    """The files that the rows name."""
    return {file for file in session.scalars(select(ForecastCycleTable.file)) if file is not None}


def _cycles() -> Select[int, str, str, int, str | None, bool]:
    found = ForecastCycleTable
    return select(found.origin, found.run, found.digest, found.servers, found.file, found.whole)
