"""What is sent when: an incident or a more urgent level of it, the ladder while nobody acknowledges, its end.

The ladder is rows of the store with a due time, so it goes on after a restart. A step that is due waits while the risk
is below, something else explains the incident, or a silence or a maintenance window covers it. A ladder that has begun
goes on through the mute times of its route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fleetcast.alerting.fleet import attributes_of
from fleetcast.alerting.incident import Incident
from fleetcast.alerting.lifecycle import write_down
from fleetcast.alerting.outbox import FOLLOWED, Told, notify, tell_those_told
from fleetcast.alerting.routing import Branch, Routing
from fleetcast.alerting.silences import quiet_at
from fleetcast.store.tables import AlertTable, EscalationTable

WAITING, DONE, CANCELLED = "waiting", "done", "cancelled"


def branches_of(routing: Routing, alert: AlertTable, level: str) -> list[Branch]:
    """The routes that an alert takes at a level."""
    return routing.branches_of(attributes_of(level, alert.profile, alert.server, alert.metric, alert.labels))


def send_level(session: Session, incident: Incident, routing: Routing, told: Told, now: datetime) -> bool:
    """Tell of an incident, of a more urgent level, and those of the same whose route was muted until now.

    Nobody is told twice of a level, and nobody of one while something holds the incident back. A ladder begins with
    each route; those of less urgent levels end. Returns whether anyone was told.
    """
    alert, level = incident.alert, incident.level
    if alert.inhibited_by is not None or alert.state == "mitigating" or all(p.cycles_below for p in incident.parts):
        return False
    if alert.sent_level is not None and level > alert.sent_level:
        return False
    levels = told.get(alert.id, {})
    sent = False
    for branch in branches_of(routing, alert, level):
        fresh = [name for name in branch.receivers if levels.get((name, branch.shadow), "P9") > level]
        if not fresh or routing.muted(branch, now):
            continue
        receivers = {name: routing.receivers[name] for name in fresh}
        text = f"[{level}] {incident.message}"
        notify(session, incident, "trigger", f"trigger/{level}", receivers, text, branch.shadow, now)
        levels |= {(name, branch.shadow): level for name in fresh}
        if not sent and alert.sent_level not in (None, level):
            cancel_ladder(session, alert.id)
        if alert.state == "open":
            _begin_ladder(session, alert.id, level, branch, now)
        sent = True
    if sent:
        told[alert.id] = levels
        alert.sent_level, alert.sent_at = level, now
    return sent


def climb(session: Session, incidents: Mapping[int, Incident], routing: Routing, now: datetime) -> list[AlertTable]:
    """Take the steps that are due of incidents that nobody acknowledged; returns those that climbed."""
    due = (
        select(EscalationTable)
        .where(EscalationTable.state == WAITING, EscalationTable.due_at <= now)
        .order_by(EscalationTable.due_at, EscalationTable.id)
        .with_for_update()
    )
    climbed: dict[int, AlertTable] = {}
    steps = session.scalars(due).all()
    quiet = quiet_at(session, routing, now) if steps else None
    for step in steps:
        incident = incidents.get(step.alert_id)
        if incident is None or incident.alert.state != "open" or step.receiver not in routing.receivers:
            step.state = CANCELLED
            continue
        if incident.alert.inhibited_by is not None or all(part.cycles_below for part in incident.parts):
            continue
        if quiet is not None and all(map(quiet, incident.parts)):  # since the last cycle
            continue
        branch = routing.branch_named(step.route)
        receiver = routing.receivers[step.receiver]
        shadow = branch is None or branch.shadow
        text = f"[{step.level}] not acknowledged for {step.after_s // 60} min: {incident.message}"
        occasion = f"escalate/{step.level}/{step.route}/{step.after_s}"
        notify(session, incident, "trigger", occasion, {step.receiver: receiver}, text, shadow, now)
        write_down(incident.alert, "escalated", now, f"{'would have told' if shadow else 'tells'} {receiver.label}")
        step.state = DONE
        climbed[step.alert_id] = incident.alert
    return list(climbed.values())


def cancel_ladder(session: Session, alert_id: int) -> None:
    """Nobody waits for an acknowledgement any more."""
    mine = (EscalationTable.alert_id == alert_id, EscalationTable.state == WAITING)
    session.execute(update(EscalationTable).where(*mine).values(state=CANCELLED))


def send_acknowledged(session: Session, incident: Incident, by: str, now: datetime) -> None:
    """Tell the channels that follow an incident who takes care of it."""
    tell_those_told(session, [incident], "acknowledge", lambda _: f"acknowledged by {by}", now, FOLLOWED)


def send_resolved(session: Session, incidents: Iterable[Incident], now: datetime) -> None:
    """Tell everybody who was told of the incidents that they are over."""
    tell_those_told(session, incidents, "resolve", _end, now)


def _end(incident: Incident) -> str:
    alert = incident.alert
    why = "the risk has passed" if alert.state == "resolved" else "its server is not heard of any more"
    return f"[resolved] {alert.key} of {alert.server} ({alert.profile}): {why}"


def _begin_ladder(session: Session, alert_id: int, level: str, branch: Branch, now: datetime) -> None:
    for step in branch.escalation:
        session.add(
            EscalationTable(
                alert_id=alert_id,
                level=level,
                route=branch.name,
                receiver=step.to,
                after_s=step.after_s,
                due_at=now + timedelta(seconds=step.after_s),
                state=WAITING,
            )
        )
