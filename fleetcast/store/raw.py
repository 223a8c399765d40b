"""Raw samples of counters and gauges that have not become a whole step yet: a log with a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleetcast.store.samples import pack, unpack
from fleetcast.store.tables import RawChunkTable


def append_raw(session: Session, table: pa.Table) -> None:
    """Add a table; it is durable when the session's transaction is."""
    session.add(RawChunkTable(payload=pack(table)))
    session.flush()


def load_raw(session: Session) -> Iterator[pa.Table]:
    """All tables in the order in which they were added."""
    for payload in session.scalars(select(RawChunkTable.payload).order_by(RawChunkTable.id)):
        yield unpack(payload)


def checkpoint_raw(session: Session, table: pa.Table) -> None:
    """Put one table in the place of all that are there."""
    session.execute(delete(RawChunkTable))
    if table.num_rows:
        append_raw(session, table)
