"""How long a room has been observing, and which of its cycles was the last."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from fleetcast.errors import StoreError
from fleetcast.store.tables import CycleTable

logger = logging.getLogger(__name__)

LONGEST_STEP_BACK = timedelta(days=1)
"""A clock that is set back by more is another clock."""

ALERTING = "alerting"
"""The observer whose cycles say how long the fleet has been watched."""


@dataclass(frozen=True)
class ObservedSpan:
    """First and last cycle and their number."""

    first_at: datetime
    last_at: datetime
    count: int


def begin_cycle(session: Session, observer: str, now: datetime) -> bool:
    """Note a cycle at `now`; False when that cycle was noted before, so that a repeat after a crash counts once.

    A clock that was set back goes on from there. Raises `StoreError` when `now` is over a day before the last cycle:
    this database belongs to another clock.
    """
    row = session.get(CycleTable, observer, with_for_update=True)
    if row is None:
        session.add(CycleTable(observer=observer, first_at=now, last_at=now, count=1))
        return True
    if now < row.last_at - LONGEST_STEP_BACK:
        raise StoreError(
            f"the clock went back: the last cycle of {observer} was at {row.last_at:%Y-%m-%d %H:%M:%S} UTC, this one "
            f"is at {now:%Y-%m-%d %H:%M:%S}; another clock needs another database (fleetcast reset starts fresh)"
        )
    if now < row.last_at:
        logger.warning("the clock went back by %s, %s goes on from %s", row.last_at - now, observer, now.isoformat())
    if now == row.last_at:
        return False
    row.last_at, row.count = now, row.count + 1
    return True


def observed(session: Session, observer: str) -> ObservedSpan | None:
    """What has been observed so far; None before the first cycle."""
    row = session.get(CycleTable, observer)
    return None if row is None else ObservedSpan(row.first_at, row.last_at, row.count)


def forget_before(session: Session, observer: str, moment: datetime) -> None:
    """What was seen before a time is kept no more: the observed span begins there."""
    row = session.get(CycleTable, observer, with_for_update=True)
    if row is not None:
        row.first_at = min(max(row.first_at, moment), row.last_at)
