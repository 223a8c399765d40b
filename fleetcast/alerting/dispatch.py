"""Delivers what waits in the outbox, at least once, by as many dispatchers at a time as one likes.

A dispatcher claims rows, sends them outside of any transaction, and records what came of it. One that dies in between
leaves a claim that runs out: the row is sent again under the same key. Messages of one incident to one receiver go out
in their order, so that a resolution never overtakes what it resolves. Times here are of the machine's clock, which
dispatchers of one database must have within a minute of each other.
"""

from __future__ import annotations

import logging
import random
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session, aliased

from fleetcast.alerting.notifiers.port import DeliveryError, Message, Notifier
from fleetcast.alerting.outbox import FAILED, SENT, WAITING
from fleetcast.alerting.renewal import due_again, send_again
from fleetcast.errors import UsageError
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import Store
from fleetcast.store.tables import NotificationTable

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S, JITTER_S = 2.0, 300.0, 1.0
LONGEST_HOLD_S = 30.0  # of all that waits for a receiver, when one message failed
AT_ONCE = 8  # requests in flight of one dispatcher
BATCH = 64
CLAIM_MARGIN_S = 60.0


@dataclass(frozen=True)
class Round:
    """What one round did; `next_at` is when the next row may be tried, None when nothing waits."""

    sent: int
    retried: int
    failed: int
    next_at: datetime | None


@dataclass(frozen=True)
class _Claimed:
    id: int
    receiver: str
    attempts: int
    since: datetime
    message: Message


def wall_clock() -> datetime:
    """The machine's time, UTC."""
    return datetime.now(UTC)


class Dispatcher:
    """Sends by these notifiers (by receiver's name)."""

    def __init__(
        self,
        store: Store,
        notifiers: Mapping[str, Notifier],
        settings: AlertSettings,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._store, self._notifiers, self._now = store, notifiers, now
        self._give_up = timedelta(seconds=settings.give_up_s)
        self._claim = timedelta(seconds=BATCH / AT_ONCE * 2 * settings.timeout_s + CLAIM_MARGIN_S)
        self._renew_after = timedelta(seconds=settings.renew_s)
        self._renewed: datetime | None = None
        self._name = secrets.token_hex(8)

    def run_once(self) -> Round:
        """Deliver what is due, up to a batch. Raises `StoreError`."""
        self._renew()
        claimed = self._claim_due()
        outcomes = [0, 0, 0]
        if len(claimed) == 1:
            outcomes[self._deliver(claimed[0])] += 1
        elif claimed:
            with ThreadPoolExecutor(min(AT_ONCE, len(claimed))) as pool:
                for outcome in pool.map(self._deliver, claimed):
                    outcomes[outcome] += 1
        sent, retried, failed = outcomes
        return Round(sent, retried, failed, self._next())

    def _renew(self) -> None:
        now = self._now()
        if self._renewed is not None and now - self._renewed < self._renew_after:
            return
        with self._store.reading() as session:
            ids = due_again(session, now - self._renew_after)
        if ids:
            with self._store.session() as session:
                send_again(session, ids)
        self._renewed = now

    def _claim_due(self) -> list[_Claimed]:
        now = self._now()
        with self._store.session() as session:
            due = select(NotificationTable).where(*_due(now)).order_by(NotificationTable.id).limit(BATCH)
            rows = session.scalars(due.with_for_update(skip_locked=True)).all()
            for row in rows:
                row.claim, row.claimed_until = self._name, now + self._claim
                row.first_tried_at = row.first_tried_at or now
                row.attempts += 1
            return [_claimed(session, row, now) for row in rows]

    def _deliver(self, claimed: _Claimed) -> int:
        """Send one; returns 0 for sent, 1 for another attempt later, 2 for failed."""
        try:
            notifier = self._notifiers.get(claimed.receiver)
            if notifier is None:
                raise DeliveryError(f"the routing has no receiver {claimed.receiver!r} any more", retry=False)
            reference = notifier.send(claimed.message)
        except DeliveryError as error:
            return self._put_off(claimed, error)
        except UsageError as error:  # a secret that is not there may be put there
            return self._put_off(claimed, DeliveryError(str(error)))
        except Exception as error:
            logger.exception("the notifier of %s failed", claimed.receiver)
            return self._put_off(claimed, DeliveryError(f"the notifier failed: {type(error).__name__}"))
        self._record(claimed, status=SENT, done_at=self._now(), error=None, reference=reference)
        return 0

    def _put_off(self, claimed: _Claimed, error: DeliveryError) -> int:
        now = self._now()
        if not error.retry or now - claimed.since >= self._give_up:
            logger.error("a notification to %s is given up: %s", claimed.receiver, error)
            self._record(claimed, status=FAILED, done_at=now, error=str(error))
            return 2
        wait = backoff(claimed.attempts)
        if error.after_s is not None:
            wait = error.after_s + random.uniform(0.0, JITTER_S)
        self._record(claimed, next_at=now + timedelta(seconds=wait), error=str(error))
        self._hold(claimed.receiver, now + timedelta(seconds=error.after_s or min(wait, LONGEST_HOLD_S)))
        return 1

    def _record(self, claimed: _Claimed, **values: object) -> None:
        """Note what came of it and let go of the row, unless another dispatcher has it by now."""
        mine = (NotificationTable.id == claimed.id, NotificationTable.claim == self._name)
        with self._store.session() as session:
            session.execute(update(NotificationTable).where(*mine).values(claim=None, claimed_until=None, **values))

    def _hold(self, receiver: str, until: datetime) -> None:
        """Ask a receiver that asked to wait, or that fails, nothing else until then."""
        row = NotificationTable
        early = (row.receiver == receiver, row.status == WAITING, or_(row.next_at.is_(None), row.next_at < until))
        with self._store.session() as session:
            session.execute(update(row).where(*early).values(next_at=until))

    def _next(self) -> datetime | None:
        """When the next message may go; messages behind another of theirs do not count."""
        row, now = NotificationTable, self._now()
        waiting = select(row.next_at, row.claimed_until).where(row.status == WAITING, _is_first())
        with self._store.reading() as session:
            rows = session.execute(waiting.order_by(row.next_at.is_not(None), row.next_at).limit(BATCH)).all()
        return min((max(when for when in (*times, now) if when is not None) for times in rows), default=None)


def backoff(attempts: int) -> float:
    """Seconds until the next attempt: exponential with full jitter, so that dispatchers do not come back together.

    AWS Architecture Blog, Exponential Backoff And Jitter (2015); at least half a second.
    """
    return max(0.5, random.uniform(0.0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempts, 20))))


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Waiting, not put off, not claimed, and the first of its incident and receiver."""
    row = NotificationTable
    return (
        row.status == WAITING,
        or_(row.next_at.is_(None), row.next_at <= now),
        or_(row.claimed_until.is_(None), row.claimed_until <= now),
        _is_first(),
    )


def _is_first() -> ColumnElement[bool]:
    """Nothing earlier of the same incident waits for the same receiver."""
    row, earlier = NotificationTable, aliased(NotificationTable)
    same = (earlier.alert_id == row.alert_id, earlier.receiver == row.receiver, earlier.id < row.id)
    return ~select(earlier.id).where(*same, earlier.status == WAITING).exists()


def _claimed(session: Session, row: NotificationTable, now: datetime) -> _Claimed:
    message = Message(
        key=row.key,
        action=row.action,  # type: ignore[arg-type]  # the table holds the words of Action
        level=row.level,
        text=row.text,
        at=row.at,
        facts=row.facts,
        reference=_reference(session, row),
    )
    return _Claimed(row.id, row.receiver, row.attempts, row.first_tried_at or now, message)


def _reference(session: Session, row: NotificationTable) -> str | None:
    """What the receiver called the first message of the incident."""
    if row.alert_id is None:
        return None
    mine = (NotificationTable.alert_id == row.alert_id, NotificationTable.receiver == row.receiver)
    query = select(NotificationTable.reference).where(*mine, NotificationTable.reference.is_not(None))
    return session.scalars(query.order_by(NotificationTable.id).limit(1)).first()
