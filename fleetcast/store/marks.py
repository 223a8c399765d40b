"""How far a source of samples has been read, so that a restart goes on there and leaves no gap."""

from __future__ import annotations

from sqlalchemy.orm import Session

from fleetcast.store.tables import MarkTable


def read_mark(session: Session, name: str) -> int | None:
    """Unix seconds up to which the source of this name has been read; None before the first time."""
    row = session.get(MarkTable, name)
    return None if row is None else row.at


def set_mark(session: Session, name: str, at: int) -> None:
    """Note how far the source has been read, in the transaction of what was read or after it."""
    session.merge(MarkTable(name=name, at=at))
