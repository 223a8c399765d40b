"""The audit trail: who did what when, as a chain of hashes.

    hash_k = SHA-256( canonical JSON of [hash_(k-1), id, at, actor, action, subject, detail] )

An entry that is changed, deleted, moved or put in between no longer fits its hash or that of its neighbours. Entries
that are cut off at the end, or a trail that is written anew as a whole, are found by comparing with a head that was
noted elsewhere (`verify(..., anchor)`). Triggers of the database refuse to change or delete entries; whoever can
remove the triggers is found by the hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.errors import AuditError, StoreError, UsageError
from fleetcast.store.tables import AuditHeadTable, AuditTable

FIRST = "0" * 64
HEAD = 1
_PENDING = "fleetcast audit"
_AT_ONCE = 1_000


@dataclass(frozen=True)
class AuditEntry:
    """One entry; `id` grows, `hash` covers it and all before it."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str
    hash: str


@dataclass(frozen=True)
class AuditHead:
    """The end of the trail: what to note elsewhere."""

    entries: int
    last: int
    hash: str


def record(session: Session, at: datetime, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Add an entry, in the transaction of what it records.

    It is chained when the transaction commits, so that the lock on the end of the trail is its last and shortest.
    Raises `StoreError` for a time without a time zone.
    """
    if at.tzinfo is None:
        raise StoreError(f"the time {at} has no time zone: give it one (UTC)")
    session.info.setdefault(_PENDING, []).append((at, actor, action, subject, detail))


def seal(session: Session) -> None:
    """Chain what was recorded in this transaction; the store does so before it commits."""
    pending = session.info.pop(_PENDING, [])
    if not pending:
        return
    head = session.get_one(AuditHeadTable, HEAD, with_for_update=True, populate_existing=True)
    for at, actor, action, subject, detail in pending:
        number = head.last + 1
        digest = entry_hash(head.hash, number, at, actor, action, subject, detail)
        session.add(
            AuditTable(
                id=number, at=at, actor=actor, action=action, subject=subject, detail=detail,
                previous=head.hash, hash=digest,
            )
        )  # fmt: skip
        head.last, head.hash, head.entries = number, digest, head.entries + 1
    session.flush()


def entry_hash(previous: str, number: int, at: datetime, actor: str, action: str, subject: str, detail: str) -> str:
    """The hash of an entry that follows one with the hash `previous`, in hexadecimal."""
    when = at.astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps([previous, number, when, actor, action, subject, detail], ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def list_audit(session: Session, limit: int = 200, before: int | None = None) -> list[AuditEntry]:
    """The newest entries, newest first; with `before` those of a lower id."""
    seal(session)
    query = select(AuditTable).order_by(AuditTable.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditTable.id < before)
    return [
        AuditEntry(row.id, row.at, row.actor, row.action, row.subject, row.detail, row.hash)
        for row in session.scalars(query)
    ]


def head_of(session: Session) -> AuditHead:
    """The end of the trail as the database says; `verify` checks it."""
    row = session.get(AuditHeadTable, HEAD)
    if row is None:
        raise AuditError("the audit trail has lost its head: the row that says where it ends is gone")
    return AuditHead(row.entries, row.last, row.hash)


def parse_anchor(text: str) -> tuple[int, str]:
    """A noted head, `ID:HASH`. Raises `UsageError`."""
    number, _, digest = text.partition(":")
    if not number.isdigit() or len(digest) != len(FIRST) or set(digest) - set("0123456789abcdef"):
        raise UsageError(f"the anchor {text!r} is not ID:HASH as `fleetcast audit verify` prints it")
    return int(number), digest


def verify(session: Session, anchor: tuple[int, str] | None = None) -> AuditHead:
    """Check every hash from the first entry to the head, and that the entry of a noted head is still there.

    Raises `AuditError` naming the first entry that is wrong and what is wrong with it.
    """
    head = head_of(session)
    previous, last, count, anchored = FIRST, 0, 0, anchor is None or anchor[0] == 0
    for row in _rows(session):
        digest = entry_hash(row.previous, row.id, row.at, row.actor, row.action, row.subject, row.detail)
        if digest != row.hash:
            raise AuditError(f"entry {row.id} of the audit trail was changed: its hash does not fit what it says")
        if row.previous != previous:
            where = f"between the entries {last} and {row.id}" if last else f"before the entry {row.id}"
            raise AuditError(f"the audit trail is broken {where}: entries were deleted, moved or put in")
        if anchor is not None and row.id == anchor[0]:
            if digest != anchor[1]:
                raise AuditError(f"entry {row.id} is not the one whose hash was noted: the trail was written anew")
            anchored = True
        previous, last, count = digest, row.id, count + 1
    if (count, last, previous) != (head.entries, head.last, head.hash):
        raise AuditError(
            f"the audit trail ends with entry {last} after {count} entries; its head says entry {head.last} after "
            f"{head.entries}: entries at the end were deleted or put in"
        )
    if not anchored and anchor is not None:
        raise AuditError(f"entry {anchor[0]}, whose hash was noted, is gone: entries were deleted")
    return head


def _rows(session: Session) -> Iterator[AuditTable]:
    yield from session.scalars(select(AuditTable).order_by(AuditTable.id).execution_options(yield_per=_AT_ONCE))
