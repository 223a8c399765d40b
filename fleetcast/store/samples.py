"""Samples as received: upsert, load, delete."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, delete, func, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import Session

from fleetcast.errors import StoreError
from fleetcast.store.tables import SampleTable

_TABLE = SampleTable.__table__


class SampleRow(NamedTuple):
    """One sample; `timestamp` is Unix seconds, a metric that is missing is not in `metrics`."""

    server: str
    timestamp: int
    profile: str
    metrics: Mapping[str, float]


def upsert_samples(session: Session, rows: Sequence[SampleRow]) -> tuple[int, int]:
    """Write samples; returns (inserted, replaced).

    A sample of the same server and time replaces the earlier one whole; of two in `rows` the last wins and is counted
    once. Raises `StoreError` for a value that is not finite.
    """
    values = [_values(row) for row in {(row.server, row.timestamp): row for row in rows}.values()]
    if not values:
        return 0, 0
    insert: Any = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    adding = insert(SampleTable).on_conflict_do_nothing()
    inserted = cast(
        "CursorResult[Any]", session.connection().execute(adding, values, execution_options={"preserve_rowcount": True})
    ).rowcount
    if inserted < len(values):
        upsert = insert(SampleTable)
        new = {"profile": upsert.excluded.profile, "metrics": upsert.excluded.metrics}
        session.connection().execute(
            upsert.on_conflict_do_update(index_elements=["server", "timestamp"], set_=new), values
        )
    return inserted, len(values) - inserted


def load_samples(session: Session, since: int) -> Iterator[SampleRow]:
    """Samples at or after `since` (Unix seconds) in the order of time, streamed."""
    query = (
        select(SampleTable.server, SampleTable.timestamp, SampleTable.profile, SampleTable.metrics)
        .where(SampleTable.timestamp >= since)
        .order_by(SampleTable.timestamp, SampleTable.server)
        .execution_options(yield_per=5_000)
    )
    for server, timestamp, profile, metrics in session.execute(query):
        yield SampleRow(server, timestamp, profile, json.loads(metrics))


def newest_timestamp(session: Session) -> int | None:
    """Time of the newest sample in Unix seconds; None when there is none."""
    return session.scalar(select(func.max(SampleTable.timestamp)))


def delete_samples_before(session: Session, before: int) -> int:
    """Delete samples older than `before` (Unix seconds); returns how many."""
    result = cast("CursorResult[Any]", session.execute(delete(SampleTable).where(SampleTable.timestamp < before)))
    return result.rowcount


def _values(row: SampleRow) -> dict[str, object]:
    try:
        metrics = json.dumps(dict(row.metrics), allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise StoreError(
            f"the sample of {row.server} at {row.timestamp} has a value that is not finite: leave the metric out"
        ) from None
    return {"server": row.server, "timestamp": row.timestamp, "profile": row.profile, "metrics": metrics}
