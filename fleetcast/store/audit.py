"""The audit trail: who did what when. Rows are only ever added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.store.tables import AuditTable


@dataclass(frozen=True)
class AuditEntry:
    """One entry."""

    at: datetime
    actor: str
    action: str
    subject: str
    detail: str


def record(session: Session, at: datetime, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Add an entry, in the transaction of what it records."""
    session.add(AuditTable(at=at, actor=actor, action=action, subject=subject, detail=detail))


def list_audit(session: Session, limit: int = 200) -> list[AuditEntry]:
    """The newest entries, newest first."""
    rows = session.scalars(select(AuditTable).order_by(AuditTable.id.desc()).limit(limit))
    return [AuditEntry(row.at, row.actor, row.action, row.subject, row.detail) for row in rows]
