"""Planned maintenance that operators announce."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.errors import UsageError
from fleetcast.store.audit import record
from fleetcast.store.tables import MaintenanceTable


class MaintenanceWindow(NamedTuple):
    """A server is planned to be down or disturbed from `start` up to `end` (UTC)."""

    server: str
    start: datetime
    end: datetime


def plan_maintenance(session: Session, window: MaintenanceWindow, by: str, now: datetime) -> None:
    """Write a window down; one of the same server and start replaces the earlier one.

    Raises `UsageError` for a window that does not end after its start.
    """
    if window.end <= window.start:
        raise UsageError(f"maintenance of {window.server} ends at {window.end}, which is not after {window.start}")
    session.merge(MaintenanceTable(server=window.server, start=window.start, end=window.end))
    record(session, now, by, "plan maintenance", window.server, f"{window.start} to {window.end}")


def load_maintenance(session: Session) -> list[MaintenanceWindow]:
    """All windows by server and start."""
    rows = session.scalars(select(MaintenanceTable).order_by(MaintenanceTable.server, MaintenanceTable.start))
    return [MaintenanceWindow(row.server, row.start, row.end) for row in rows]
