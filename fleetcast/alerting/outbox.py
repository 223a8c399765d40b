"""Notifications as rows of the outbox, written in the transaction that decides them.

In shadow mode a row is final when it is written: it says what would have been sent. Else it waits for the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.views import Action
from fleetcast.store.tables import AlertTable, NotificationTable

WOULD_HAVE_SENT, WAITING, SENT, FAILED = "would have sent", "waiting", "sent", "failed"
NAMED_SERVERS, MOST_SERVERS = 10, 200
FOLLOWED = frozenset({"PagerDuty", "Slack", "webhook"})  # channels that are told of an acknowledgement
MOST_KEY = 255  # PagerDuty's limit of a deduplication key

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


class Address(NamedTuple):
    """An addressee of an earlier message."""

    channel: str
    to: str


@dataclass(frozen=True)
class Incident:
    """An alert without a parent, the live alerts of its incident (itself among them), and the level of all."""

    alert: AlertTable
    parts: Sequence[AlertTable]
    level: str

    @classmethod
    def of(cls, alert: AlertTable, parts: Sequence[AlertTable]) -> Incident:
        """The level is the most urgent of the parts that are at their level now; without any, the alert's own."""
        return cls(alert, parts, min((part.level for part in parts if part.cycles_below == 0), default=alert.level))

    @property
    def message(self) -> str:
        """What it is about: the alert that is as urgent as all, and how many servers have it besides."""
        speaker = self.alert
        if speaker.level != self.level or speaker.cycles_below:
            speaker = next((one for one in self.parts if one.level == self.level and not one.cycles_below), speaker)
        others = sorted({part.server for part in self.parts} - {speaker.server})
        text = speaker.message
        if others:
            named = ", ".join(others[:NAMED_SERVERS]) + (", ..." if len(others) > NAMED_SERVERS else "")
            text += f"; with it {len(others)} further server{'s' if len(others) > 1 else ''}: {named}"
        if self.alert.suspect:
            text += f"; probable upstream: {self.alert.suspect}"
        return text


def incident_key(alert: AlertTable) -> str:
    """What receivers know the incident by, the same for all its notifications."""
    return f"fleetcast/{alert.id}/{alert.key}"[:MOST_KEY]


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
    told: dict[tuple[int, str, bool], Address] = {}
    for alert_id, name, channel, to, status in session.execute(query) if by_id else ():
        if channels is None or channel in channels:
            told[(alert_id, name, status == WOULD_HAVE_SENT)] = Address(channel, to)
    for (alert_id, name, shadow), receiver in told.items():
        incident = by_id[alert_id]
        occasion = f"{action}/{now.isoformat()}" if action == "acknowledge" else action
        notify(session, incident, action, occasion, {name: receiver}, text(incident), shadow, now)


def facts_of(incident: Incident, now: datetime) -> dict[str, Any]:
    """What notifiers make their messages of, as it was when the message was decided."""
    alert = incident.alert
    servers = sorted({part.server for part in incident.parts} | {alert.server})
    return {
        "incident": incident_key(alert),
        "id": alert.id,
        "state": alert.state,
        "level": incident.level,
        "server": alert.server,
        "profile": alert.profile,
        "metric": alert.metric,
        "labels": alert.labels,
        "servers": servers[:MOST_SERVERS],
        "server_count": len(servers),
        "message": incident.message,
        "p_30m": alert.p_30m,
        "p_8h": alert.p_8h,
        "score": alert.score,
        "opened_at": None if alert.opened_at is None else alert.opened_at.isoformat(),
        "at": now.isoformat(),
    }
