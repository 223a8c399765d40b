"""What is sent to whom and when: the opening or a more urgent level, the ladder of escalation, the resolution.

Notifications are rows of the outbox, written in the transaction that decides them. In shadow mode, the only mode there
is so far, a row is final when it is written: it says what would have been sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import write_down
from fleetcast.alerting.routing import Receiver, Routing
from fleetcast.alerting.views import AlertLevel
from fleetcast.store.tables import AlertTable, NotificationTable

WOULD_HAVE_SENT = "would have sent"


def send_level(alert: AlertTable, routing: Routing, now: datetime) -> bool:
    """Send an alert that is at its level and not inhibited, once a level and only when it is more urgent than before.

    The ladder of escalation then counts from `now`. Returns whether it was sent.
    """
    level = cast("AlertLevel", alert.level)
    if alert.inhibited_by is not None or alert.cycles_below > 0:
        return False
    if alert.sent_level is not None and level >= alert.sent_level:
        return False
    _write(alert, level, routing.receivers_of(level), f"[{level}] {alert.message}", now)
    alert.sent_level, alert.sent_at, alert.escalated_steps = level, now, 0
    return True


def escalate(alert: AlertTable, routing: Routing, now: datetime) -> bool:
    """Take the steps of the ladder that are due for an alert that nobody acknowledged; returns whether there were any.

    While the risk is below, or something else explains the alert, the ladder waits.
    """
    if alert.state != "open" or alert.sent_at is None or alert.inhibited_by is not None or alert.cycles_below > 0:
        return False
    level = cast("AlertLevel", alert.sent_level)
    ladder = routing.escalation_of(level)
    due = [step for step in ladder[alert.escalated_steps :] if alert.sent_at + timedelta(seconds=step[0]) <= now]
    for after, receiver in due:
        text = f"[{level}] not acknowledged for {after // 60} min: {alert.message}"
        _write(alert, f"{level}/{after}", [receiver], text, now)
        write_down(alert, "escalated", now, f"would have told {receiver.label}")
    alert.escalated_steps += len(due)
    return bool(due)


def send_resolved(session: Session, alerts: Iterable[AlertTable], now: datetime) -> None:
    """Tell everybody who was told of the alerts that they are over."""
    told = {alert.id: alert for alert in alerts if alert.sent_level is not None}
    query = (
        select(NotificationTable.alert_id, NotificationTable.channel, NotificationTable.receiver)
        .where(NotificationTable.alert_id.in_(told))
        .distinct()
        .order_by(NotificationTable.alert_id, NotificationTable.channel, NotificationTable.receiver)
    )
    for alert_id, channel, to in session.execute(query):
        alert = told[alert_id]
        text = f"[resolved] {alert.key} of {alert.server} ({alert.profile}): the risk has passed"
        _write(alert, "resolved", [Receiver(channel=channel, to=to)], text, now)


def _write(alert: AlertTable, occasion: str, receivers: Sequence[Receiver], text: str, now: datetime) -> None:
    for receiver in receivers:
        alert.notifications.add(
            NotificationTable(
                key=f"{alert.id}/{occasion}/{receiver.label}",
                at=now,
                channel=receiver.channel,
                receiver=receiver.to,
                status=WOULD_HAVE_SENT,
                text=text,
            )
        )
