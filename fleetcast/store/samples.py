"""Samples as received: chunks of Arrow, appended whole, compacted and deleted by spans of time.

A commit adds one chunk for each span of `BUCKET_SECONDS` that its rows fall into; a later chunk's row replaces an
earlier one of the same server and time whole. The database gives what a log of our own would have to: a commit is on
disk when it returns, and what a crash cut off is not there. One column a metric and one compressed piece a commit
instead of one row a sample is what makes writing and reloading a fleet a matter of seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from fleetcast.errors import StoreError
from fleetcast.store.tables import SampleChunkTable

BUCKET_SECONDS = 3 * 3600
HEAD = ("server", "profile", "timestamp")
MOST_CHUNKS = 64
SETTLED_CHUNKS = 8

_TIME = pa.timestamp("s", tz="UTC")
_WORD = pa.dictionary(pa.int32(), pa.string())
_KEY_BITS = 34  # Unix seconds until the year 2514
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)


def append_samples(session: Session, table: pa.Table) -> int:
    """Add samples; returns their number. They are durable when the session's transaction is.

    Columns are `server`, `profile`, `timestamp` (seconds, UTC) and metrics (floats; null or NaN is no value). Of two
    rows with the same server and time the later one counts.
    """
    if not table.num_rows:
        return 0
    table = _plain(table)
    seconds = seconds_of(table)
    buckets = seconds // BUCKET_SECONDS
    for bucket in np.unique(buckets):
        here = buckets == bucket
        session.add(_chunk(int(bucket), table if here.all() else table.filter(pa.array(here)), seconds[here]))
    session.flush()
    return int(table.num_rows)


def read_samples(session: Session, since: int, until: int | None = None) -> Iterator[pa.Table]:
    """Samples from `since` up to `until` (Unix seconds, both included), one table a span of time, in its order.

    Each server and time is there once; servers and profiles are dictionaries.
    """
    for bucket in _buckets(session, since, until):
        table = _merged([payload for _, payload in _payloads(session, bucket)])
        seconds = seconds_of(table)
        wanted = seconds >= since
        if until is not None:
            wanted &= seconds <= until
        if wanted.any():
            yield table if wanted.all() else table.filter(pa.array(wanted))


def newest_timestamp(session: Session) -> int | None:
    """Time of the newest sample in Unix seconds; None when there is none."""
    return session.scalar(select(func.max(SampleChunkTable.last)))


def delete_samples_before(session: Session, before: int) -> int:
    """Delete the spans of time that end before `before` (Unix seconds); returns how many rows they had."""
    old = SampleChunkTable.bucket < before // BUCKET_SECONDS
    rows = session.scalar(select(func.coalesce(func.sum(SampleChunkTable.rows), 0)).where(old)) or 0
    session.execute(delete(SampleChunkTable).where(old))
    return int(rows)


def buckets_to_compact(session: Session) -> list[int]:
    """The spans whose chunks are many: more than 64, or more than 8 in a span that is no longer the newest."""
    counted = select(SampleChunkTable.bucket, func.count()).group_by(SampleChunkTable.bucket)
    counts = sorted((int(bucket), int(count)) for bucket, count in session.execute(counted))
    if not counts:
        return []
    newest = counts[-1][0]
    return [bucket for bucket, count in counts if count > MOST_CHUNKS or (count > SETTLED_CHUNKS and bucket != newest)]


def merge_bucket(session: Session, bucket: int) -> tuple[list[int], SampleChunkTable] | None:
    """The chunks of a span as one, for `replace_chunks`; None when there is nothing to merge. Only reads."""
    found = _payloads(session, bucket)
    if len(found) < 2:
        return None
    table = _merged([payload for _, payload in found])
    return [number for number, _ in found], _chunk(bucket, table, seconds_of(table))


def replace_chunks(session: Session, numbers: Sequence[int], merged: SampleChunkTable) -> bool:
    """Put the merged chunk in the place of those that it was made of; False when one of them has gone meanwhile.

    It takes the number of the newest of them, so that what was added since still comes later.
    """
    there = select(func.count()).where(SampleChunkTable.id.in_(numbers))
    if session.scalar(there) != len(numbers):
        return False
    last = max(numbers)
    session.execute(delete(SampleChunkTable).where(SampleChunkTable.id.in_(set(numbers) - {last})))
    values = {name: getattr(merged, name) for name in ("first", "last", "rows", "payload")}
    session.execute(update(SampleChunkTable).where(SampleChunkTable.id == last).values(values))
    return True


def pack(table: pa.Table) -> bytes:
    """A table as bytes: a compressed Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=_COMPRESSED) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def unpack(payload: bytes) -> pa.Table:
    """The table of `pack`. Raises `StoreError` when the bytes are no such table."""
    try:
        return pa.ipc.open_stream(payload).read_all()
    except pa.ArrowInvalid as error:
        raise StoreError(f"a chunk of the database is damaged ({error}): restore the database from a backup") from error


def seconds_of(table: pa.Table) -> npt.NDArray[np.int64]:
    """The time stamps as Unix seconds."""
    return np.asarray(pc.cast(table["timestamp"], pa.int64()), dtype=np.int64)


def _plain(table: pa.Table) -> pa.Table:
    """Names as dictionaries, whole seconds, one batch."""
    columns = {
        "server": table["server"].cast(_WORD),
        "profile": table["profile"].cast(_WORD),
        "timestamp": table["timestamp"].cast(_TIME),
        **{name: table[name] for name in table.schema.names if name not in HEAD},
    }
    return pa.table(columns).unify_dictionaries().combine_chunks()


def _chunk(bucket: int, table: pa.Table, seconds: npt.NDArray[np.int64]) -> SampleChunkTable:
    first, last = int(seconds.min()), int(seconds.max())
    return SampleChunkTable(bucket=bucket, first=first, last=last, rows=table.num_rows, payload=pack(table))


def _buckets(session: Session, since: int, until: int | None) -> list[int]:
    query = select(SampleChunkTable.bucket).where(SampleChunkTable.bucket >= since // BUCKET_SECONDS)
    if until is not None:
        query = query.where(SampleChunkTable.bucket <= until // BUCKET_SECONDS)
    return list(session.scalars(query.distinct().order_by(SampleChunkTable.bucket)))


def _payloads(session: Session, bucket: int) -> list[tuple[int, bytes]]:
    query = (
        select(SampleChunkTable.id, SampleChunkTable.payload)
        .where(SampleChunkTable.bucket == bucket)
        .order_by(SampleChunkTable.id)
    )
    return [(number, payload) for number, payload in session.execute(query)]


def _merged(payloads: Sequence[bytes]) -> pa.Table:
    """One table of all; the later of two rows with the same server and time, by server and time."""
    tables = [unpack(payload) for payload in payloads]
    table = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().combine_chunks()
    if len(tables) == 1:
        return table
    codes = np.asarray(table["server"].combine_chunks().indices, dtype=np.int64)
    keys = (codes << _KEY_BITS) | seconds_of(table)
    _, from_the_end = np.unique(keys[::-1], return_index=True)
    return table.take(pa.array(len(keys) - 1 - from_the_end)).combine_chunks()
