"""Rows of the store as views."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.sending import CANCELLED, DONE, branches_of
from fleetcast.alerting.views import AlertView, EscalationView, NotificationView, TimelineView
from fleetcast.store.tables import AlertEventTable, AlertTable, EscalationTable, NotificationTable

OWN = frozenset(AlertTable.__table__.columns.keys()) & AlertView.model_fields.keys()


def views_of(session: Session, alerts: Sequence[AlertTable], routing: Routing) -> list[AlertView]:
    """The alerts in their order, each with its timeline, ladder and notifications (four queries for all)."""
    session.flush()
    if not alerts:
        return []
    ids = [alert.id for alert in alerts]
    timelines: dict[int, list[TimelineView]] = defaultdict(list)
    events = select(AlertEventTable).where(AlertEventTable.alert_id.in_(ids)).order_by(AlertEventTable.id)
    for event in session.scalars(events):
        timelines[event.alert_id].append(TimelineView(at=event.at, event=event.event, detail=event.detail))
    outbox: dict[int, list[NotificationView]] = defaultdict(list)
    sent = select(NotificationTable).where(NotificationTable.alert_id.in_(ids)).order_by(NotificationTable.id)
    for row in session.scalars(sent):
        outbox[row.alert_id or 0].append(notification_view(row))
    ladders: dict[int, list[EscalationTable]] = defaultdict(list)
    steps = select(EscalationTable).where(EscalationTable.alert_id.in_(ids)).order_by(EscalationTable.id)
    for step in session.scalars(steps):
        ladders[step.alert_id].append(step)
    live = (AlertTable.parent_id.in_(ids), AlertTable.state.in_(LIVE))
    counts = select(AlertTable.parent_id, func.count()).where(*live).group_by(AlertTable.parent_id)
    parts = Counter({row[0]: row[1] for row in session.execute(counts)})
    return [
        AlertView.model_validate(
            {name: getattr(alert, name) for name in OWN}
            | {
                "parts": parts[alert.id],
                "route": _receivers(alert, routing),
                "escalation": _ladder(alert, ladders[alert.id], routing),
                "timeline": timelines[alert.id],
                "notifications": outbox[alert.id],
            }
        )
        for alert in alerts
    ]


def notification_view(row: NotificationTable) -> NotificationView:
    """A message of the outbox."""
    return NotificationView.model_validate(
        {
            **{name: getattr(row, name) for name in ("channel", "to", "at", "status", "text", "action")},
            **{"attempts": row.attempts, "delivered_at": row.done_at, "error": row.error},
        }
    )


def _receivers(alert: AlertTable, routing: Routing) -> list[str]:
    names = [name for branch in branches_of(routing, alert, alert.level) for name in branch.receivers]
    return list(dict.fromkeys(routing.receivers[name].label for name in names))


def _ladder(alert: AlertTable, steps: Sequence[EscalationTable], routing: Routing) -> list[EscalationView]:
    """The ladder of the level that was sent last, or before it is sent that of its level."""
    if alert.sent_at is None:
        waiting = {(s.after_s, s.to) for b in branches_of(routing, alert, alert.level) for s in b.escalation}
        return [
            EscalationView(after_s=after, to=routing.receivers[to].label, due_at=None, done=False)
            for after, to in sorted(waiting)
        ]
    return [
        EscalationView(
            after_s=step.after_s,
            to=routing.receivers[step.receiver].label if step.receiver in routing.receivers else step.receiver,
            due_at=None if step.state == CANCELLED else step.due_at,
            done=step.state == DONE,
        )
        for step in steps
        if step.level == alert.sent_level and step.due_at > alert.sent_at
    ]
