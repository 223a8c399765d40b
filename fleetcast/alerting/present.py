"""Rows of the store as views."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import AlertLevel, AlertView, EscalationView, NotificationView, TimelineView
from fleetcast.store.tables import AlertEventTable, AlertTable, NotificationTable


def views_of(session: Session, alerts: Sequence[AlertTable], routing: Routing) -> list[AlertView]:
    """The alerts in their order, each with its timeline and notifications (two queries for all)."""
    session.flush()
    ids = [alert.id for alert in alerts]
    timelines: dict[int, list[TimelineView]] = defaultdict(list)
    events = select(AlertEventTable).where(AlertEventTable.alert_id.in_(ids)).order_by(AlertEventTable.id)
    for event in session.scalars(events):
        timelines[event.alert_id].append(TimelineView(at=event.at, event=event.event, detail=event.detail))
    outbox: dict[int, list[NotificationView]] = defaultdict(list)
    sent = select(NotificationTable).where(NotificationTable.alert_id.in_(ids)).order_by(NotificationTable.id)
    for row in session.scalars(sent):
        outbox[row.alert_id].append(_notification(row))
    return [_view(alert, routing, timelines[alert.id], outbox[alert.id]) for alert in alerts]


def _notification(row: NotificationTable) -> NotificationView:
    return NotificationView(channel=row.channel, to=row.receiver, at=row.at, status=row.status, text=row.text)


def _view(
    alert: AlertTable, routing: Routing, timeline: list[TimelineView], notifications: list[NotificationView]
) -> AlertView:
    level = cast("AlertLevel", alert.level)
    return AlertView.model_validate(
        {
            **{name: getattr(alert, name) for name in AlertView.model_fields if hasattr(alert, name)},
            "route": [receiver.label for receiver in routing.receivers_of(level)],
            "escalation": _ladder(alert, routing),
            "timeline": timeline,
            "notifications": notifications,
        }
    )


def _ladder(alert: AlertTable, routing: Routing) -> list[EscalationView]:
    """The ladder of the level that was sent, or will be; a step that nobody waits for any more has no due time."""
    level = cast("AlertLevel", alert.sent_level or alert.level)
    steps = []
    for position, (after, receiver) in enumerate(routing.escalation_of(level)):
        done = position < alert.escalated_steps
        waits = alert.sent_at is not None and (done or alert.state == "open")
        due = alert.sent_at + timedelta(seconds=after) if waits and alert.sent_at else None
        steps.append(EscalationView(after_s=after, to=receiver.label, due_at=due, done=done))
    return steps
