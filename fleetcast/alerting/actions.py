"""What people and remediation do to an incident; asked of one of its alerts, it is done to the whole incident."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting.incident import Incident
from fleetcast.alerting.lifecycle import LIVE, transition
from fleetcast.alerting.sending import cancel_ladder, send_acknowledged, send_resolved
from fleetcast.alerting.views import AlertState
from fleetcast.store import audit
from fleetcast.store.tables import AlertTable


def acknowledge(session: Session, alert: AlertTable, by: str, now: datetime) -> None:
    """Somebody takes care: the ladder ends, and those who follow the incident are told. Raises `ConflictError`."""
    incident = _incident(session, alert)
    _move(incident, "acknowledged", now, f"by {by}")
    for part in incident.parts:
        part.acknowledged_by, part.acknowledged_at = by, now
    cancel_ladder(session, incident.alert.id)
    send_acknowledged(session, incident, by, now)
    audit.record(session, now, by, "acknowledge alert", str(alert.id), alert.key)


def resolve(session: Session, alert: AlertTable, by: str, now: datetime) -> None:
    """Somebody says that it is over. Raises `ConflictError`."""
    incident = _incident(session, alert)
    _move(incident, "resolved", now, f"by {by}")
    cancel_ladder(session, incident.alert.id)
    send_resolved(session, [incident], now)
    audit.record(session, now, by, "resolve alert", str(alert.id), alert.key)


def mitigate(session: Session, alert: AlertTable, by: str, now: datetime, until: datetime) -> None:
    """A remediation has begun, which must end by `until`. Raises `ConflictError`."""
    incident = _incident(session, alert)
    _move(incident, "mitigating", now, f"by {by}, until {until:%H:%M} UTC at most")
    for part in incident.parts:
        part.mitigating_until = until
    cancel_ladder(session, incident.alert.id)
    audit.record(session, now, by, "mitigate alert", str(alert.id), alert.key)


def mitigation_failed(session: Session, alert: AlertTable, why: str, now: datetime) -> None:
    """The remediation did not help: whoever was told is told again. Raises `ConflictError` unless one runs."""
    incident = _incident(session, alert)
    _move(incident, "open", now, why)
    forget_sent(incident.alert)


def forget_sent(alert: AlertTable) -> None:
    """Let the next cycle tell everybody again, as of an incident that came back."""
    alert.reopened += 1
    alert.sent_level = alert.sent_at = None


def _move(incident: Incident, to: AlertState, now: datetime, detail: str) -> None:
    """The incident's alert first: where that may not, nothing is done."""
    transition(incident.alert, to, now, detail)
    for part in incident.parts:
        if part is not incident.alert:
            transition(part, to, now, f"with incident {incident.alert.id}: {detail}")


def _incident(session: Session, alert: AlertTable) -> Incident:
    head = session.get_one(AlertTable, alert.parent_id, with_for_update=True) if alert.parent_id else alert
    which = (AlertTable.parent_id == head.id) & AlertTable.state.in_(LIVE)
    parts = session.scalars(select(AlertTable).where(which).order_by(AlertTable.id).with_for_update())
    return Incident.of(head, [head, *parts])
