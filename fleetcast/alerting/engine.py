"""The alert engine: takes the risks of a cycle, decides, and writes alerts, timeline and outbox in one transaction.

All that it knows is in the store, so a restart between two cycles changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting.inhibition import inhibitors
from fleetcast.alerting.lifecycle import LIVE, OVER, transition, write_down
from fleetcast.alerting.notifiers import LogNotifier, Notifier
from fleetcast.alerting.outbox import escalate, send_level, send_resolved
from fleetcast.alerting.present import views_of
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.tracking import follow
from fleetcast.alerting.views import AlertChanges, AlertState, AlertView
from fleetcast.errors import NotFoundError, UsageError
from fleetcast.settings import AlertSettings
from fleetcast.store import audit
from fleetcast.store.cycles import ALERTING, begin_cycle
from fleetcast.store.engine import Store
from fleetcast.store.leases import Lease, require_lease
from fleetcast.store.tables import AlertTable

if TYPE_CHECKING:
    from fleetcast.risk.assess import Risk

NOBODY: Mapping[str, Sequence[str]] = {}


class AlertEngine:
    """Opens, routes, escalates and resolves alerts. Raises `UsageError` when asked to leave shadow mode."""

    def __init__(
        self, store: Store, settings: AlertSettings, routing: Routing, notifier: Notifier | None = None
    ) -> None:
        if not settings.shadow:
            raise UsageError(
                "alerts.shadow is false, but this version has no notifier that sends: "
                "leave FLEETCAST_ALERTS__SHADOW at true"
            )
        self.store, self.settings, self.routing = store, settings, routing
        self.notifier: Notifier = notifier or LogNotifier()

    def observe(
        self,
        risks: Sequence[Risk],
        now: datetime,
        maintenance: frozenset[str] = frozenset(),
        upstreams: Mapping[str, Sequence[str]] = NOBODY,
        lease: Lease | None = None,
    ) -> AlertChanges:
        """One cycle.

        Args:
            risks: at most one a server; a server without one keeps its alerts as they are.
            now: the time of the cycle; the same time again changes nothing (a repeat after a crash).
            maintenance: servers in planned maintenance: their alerts are kept and not sent.
            upstreams: the servers that each server directly depends on.
            lease: what whoever made the risks must still hold, where one of several does.

        Raises `StoreError` when `now` lies before the last cycle, `LeaseLostError` when another process took over.
        """
        with self.store.session() as session:
            if lease is not None:
                require_lease(session, lease)
            if not begin_cycle(session, ALERTING, now):
                return AlertChanges(opened=[], resolved=[], escalated=[], updated=[])
            alerts = self._follow(session, risks, now)
            changes = self._decide(session, alerts, now, maintenance, upstreams)
        self._tell(changes, now)
        return changes

    def list_alerts(self, state: AlertState | None = None, limit: int = 200) -> list[AlertView]:
        """Alerts in a state, newest first; without a state all but those that expired before they opened."""
        wanted = AlertTable.state == state if state else AlertTable.state != "expired"
        with self.store.reading() as session:
            rows = session.scalars(select(AlertTable).where(wanted).order_by(AlertTable.id.desc()).limit(limit)).all()
            return views_of(session, rows, self.routing)

    def get(self, alert_id: int) -> AlertView:
        """One alert. Raises `NotFoundError`."""
        with self.store.reading() as session:
            return views_of(session, [_row(session, alert_id)], self.routing)[0]

    def acknowledge(self, alert_id: int, by: str, now: datetime) -> AlertView:
        """Somebody takes it: the escalation stops. Raises `NotFoundError`, or `ConflictError` unless it is open."""
        with self.store.session() as session:
            alert = _row(session, alert_id)
            transition(alert, "acknowledged", now, f"by {by}")
            alert.acknowledged_by, alert.acknowledged_at = by, now
            audit.record(session, now, by, "acknowledge alert", str(alert_id), alert.key)
            return views_of(session, [alert], self.routing)[0]

    def resolve(self, alert_id: int, by: str, now: datetime) -> AlertView:
        """Somebody says it is over; a risk that stays opens a new alert.

        Raises `NotFoundError`, or `ConflictError` unless it is open or acknowledged.
        """
        with self.store.session() as session:
            alert = _row(session, alert_id)
            transition(alert, "resolved", now, f"by {by}")
            send_resolved(session, [alert], now)
            audit.record(session, now, by, "resolve alert", str(alert_id), alert.key)
            return views_of(session, [alert], self.routing)[0]

    def _follow(self, session: Session, risks: Sequence[Risk], now: datetime) -> list[AlertTable]:
        """Carry all alerts that are not over through the cycle; returns those and the ones that began."""
        query = select(AlertTable).where(AlertTable.state.not_in(OVER)).order_by(AlertTable.id).with_for_update()
        by_server: dict[str, list[AlertTable]] = defaultdict(list)
        for alert in session.scalars(query):
            by_server[alert.server].append(alert)
        for risk in sorted(risks, key=lambda risk: risk.server):
            by_server[risk.server] = follow(by_server[risk.server], risk, now, self.settings)
        alerts = [alert for of_server in by_server.values() for alert in of_server]
        session.add_all(alerts)
        session.flush()
        return alerts

    def _decide(
        self,
        session: Session,
        alerts: Sequence[AlertTable],
        now: datetime,
        maintenance: frozenset[str],
        upstreams: Mapping[str, Sequence[str]],
    ) -> AlertChanges:
        """What is inhibited, sent, escalated and resolved after all servers have been followed."""
        live = [alert for alert in alerts if alert.state in LIVE]
        resolved = [alert for alert in alerts if alert.state == "resolved"]
        opened = [alert for alert in live if alert.opened_at == now]
        changed = _inhibit(live, inhibitors(live, maintenance, upstreams), now)
        for alert in opened:
            alert.dependent = alert.inhibited_by is not None
        changed |= {alert.id for alert in live if send_level(alert, self.routing, now)}
        escalated = [alert for alert in live if escalate(alert, self.routing, now)]
        send_resolved(session, resolved, now)
        updated = [alert for alert in live if alert.id in changed and alert.opened_at != now]
        return AlertChanges(
            opened=views_of(session, opened, self.routing),
            resolved=views_of(session, resolved, self.routing),
            escalated=views_of(session, escalated, self.routing),
            updated=views_of(session, updated, self.routing),
        )

    def _tell(self, changes: AlertChanges, now: datetime) -> None:
        """Hand the cycle's notifications over, after they are in the store."""
        views = {view.id: view for view in (*changes.opened, *changes.updated, *changes.escalated, *changes.resolved)}
        for view in views.values():
            for notification in view.notifications:
                if notification.at == now:
                    self.notifier.send(notification)


def _inhibit(live: Iterable[AlertTable], causes: Mapping[int, str], now: datetime) -> set[int]:
    """Note what inhibits each alert from now on; returns the ids of those where it changed."""
    changed = set()
    for alert in live:
        cause = causes.get(alert.id)
        if cause == alert.inhibited_by:
            continue
        write_down(alert, "inhibited" if cause else "released", now, f"by {cause}" if cause else "nothing inhibits it")
        alert.inhibited_by = cause
        changed.add(alert.id)
    return changed


def _row(session: Session, alert_id: int) -> AlertTable:
    row = session.get(AlertTable, alert_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"there is no alert {alert_id}")
    return row
