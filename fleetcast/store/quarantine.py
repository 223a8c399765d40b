"""The quarantine: values that were refused when they came in, newest first, the last so many."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from fleetcast.store.tables import QuarantineTable


class Refused(NamedTuple):
    """A value that broke a rule; `row` counts from 0 in the request."""

    row: int
    server: str | None
    timestamp: str | None
    column: str
    value: str | None
    rule: str


class QuarantineEntry(NamedTuple):
    """A refused value, when it came and the name of the key that sent it; `number` grows."""

    number: int
    at: datetime
    sender: str
    refused: Refused


def add_refused(session: Session, at: datetime, sender: str, refused: Sequence[Refused], most: int) -> None:
    """Keep refused values; of all that there are the newest `most` stay."""
    if not refused:
        return
    rows = [{name: _printable(value) for name, value in entry._asdict().items()} for entry in refused[-most:]]
    session.execute(insert(QuarantineTable), [{"at": at, "sender": sender, **row} for row in rows])
    newest = session.scalar(select(func.max(QuarantineTable.id))) or 0
    session.execute(delete(QuarantineTable).where(QuarantineTable.id <= newest - most))


def _printable(value: object) -> object:
    """Text without control characters, which a database may refuse (PostgreSQL does NUL)."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return value.encode("unicode_escape").decode("ascii")


def list_refused(
    session: Session, server: str | None = None, before: int | None = None, limit: int = 100
) -> list[QuarantineEntry]:
    """The newest entries, newest first: of one server if it is named, with numbers smaller than `before` if given."""
    query = select(QuarantineTable).order_by(QuarantineTable.id.desc()).limit(limit)
    if server is not None:
        query = query.where(QuarantineTable.server == server)
    if before is not None:
        query = query.where(QuarantineTable.id < before)
    return [
        QuarantineEntry(
            row.id,
            row.at,
            row.sender,
            Refused(row.row, row.server, row.timestamp, row.column, row.value, row.rule),
        )
        for row in session.scalars(query)
    ]


def newest_refused(session: Session) -> int:
    """Number of the newest entry, which grows with every value that is refused; 0 where none ever was."""
    return session.scalar(select(func.max(QuarantineTable.id))) or 0


def count_refused(session: Session) -> int:
    """How many entries are kept."""
    return session.scalar(select(func.count()).select_from(QuarantineTable)) or 0
