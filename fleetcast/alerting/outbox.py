"""Notifications as rows of the outbox, written in the transaction that decides them.

In shadow mode a row is final when it is written: it says what would have been sent. Else it waits for the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting.incident import Incident, facts_of
from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.views import Action
from fleetcast.store.tables import AlertTable, NotificationTable

WOULD_HAVE_SENT, WAITING, SENT, FAILED = "would have sent", "waiting", "sent", "failed"
FOLLOWED = frozenset({"PagerDuty", "Slack", "webhook"})  # channels that are told of an acknowledgement

Told = dict[int, dict[tuple[str, bool], str]]
"""By incident: the most urgent level of its present episode that a receiver was told, and would have been (True)."""


class Addressee(Protocol):
    """Who is told: a receiver of the routing, or one that was told before."""

    @property
    def channel(self) -> str:
        """PagerDuty, Slack, ..."""

    @property
    def to(self) -> str:
        """Who, for people."""


class Contact(NamedTuple):
    """An addressee of an earlier message."""

    channel: str
    to: str


def load_told(session: Session, incidents: Collection[AlertTable]) -> Told:
    """Who was told what of these live incidents."""
    found: Told = {}
    row = NotificationTable
    query = (
        select(AlertTable.id, row.receiver, row.status, row.level)
        .join(AlertTable, AlertTable.id == row.alert_id)
        .where(AlertTable.state.in_(LIVE), row.action == "trigger", row.episode == AlertTable.reopened)
    )
    any_sent = any(alert.sent_level is not None for alert in incidents)
    for alert_id, receiver, status, level in session.execute(query) if any_sent else ():
        levels = found.setdefault(alert_id, {})
        way = (receiver, status == WOULD_HAVE_SENT)
        levels[way] = min(level, levels.get(way, level))
    return found


def notify(
    session: Session,
    incident: Incident,
    action: Action,
    occasion: str,
    receivers: Mapping[str, Addressee],
    text: str,
    shadow: bool,
    now: datetime,
) -> None:
    """Put a message for each receiver (by name) into the outbox; `occasion` tells it from the incident's others."""
    facts = facts_of(incident, now)
    alert = incident.alert
    for name, receiver in receivers.items():
        mark = "shadow/" if shadow else ""
        session.add(
            NotificationTable(
                key=f"{mark}{alert.id}.{alert.reopened}/{occasion}/{name}",
                alert_id=alert.id,
                episode=alert.reopened,
                at=now,
                action=action,
                level=incident.level,
                receiver=name,
                channel=receiver.channel,
                to=receiver.to,
                status=WOULD_HAVE_SENT if shadow else WAITING,
                text=text,
                facts=facts,
                attempts=0,
            )
        )


def tell_those_told(
    session: Session,
    incidents: Iterable[Incident],
    action: Action,
    text: Callable[[Incident], str],
    now: datetime,
    channels: Collection[str] | None = None,
) -> None:
    """Tell everybody who was told of the incidents, in shadow where that was; `channels` limits to these."""
    by_id = {incident.alert.id: incident for incident in incidents if incident.alert.sent_level is not None}
    row = NotificationTable
    query = (
        select(AlertTable.id, row.receiver, row.channel, row.to, row.status)
        .join(AlertTable, AlertTable.id == row.alert_id)
        .where(AlertTable.id.in_(by_id), row.action == "trigger", row.episode == AlertTable.reopened)
        .order_by(row.id)
    )
    told: dict[tuple[int, str, bool], Contact] = {}
    for alert_id, name, channel, to, status in session.execute(query) if by_id else ():
        if channels is None or channel in channels:
            told[(alert_id, name, status == WOULD_HAVE_SENT)] = Contact(channel, to)
    for (alert_id, name, shadow), receiver in told.items():
        incident = by_id[alert_id]
        occasion = f"{action}/{now.isoformat()}" if action == "acknowledge" else action
        notify(session, incident, action, occasion, {name: receiver}, text(incident), shadow, now)
