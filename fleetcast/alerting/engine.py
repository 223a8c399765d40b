"""The alert engine: each method is one transaction that writes alerts, timeline and outbox together.

All that it knows is in the store, so a restart between two cycles changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.alerting import actions, silences
from fleetcast.alerting.correlation import Correlator
from fleetcast.alerting.cycle import Cycle, end_mitigations, incidents_of, load_alerts
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.present import views_of
from fleetcast.alerting.retention import forget_over
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.sending import climb
from fleetcast.alerting.views import AlertChanges, AlertState, AlertView, SilenceView
from fleetcast.errors import NotFoundError
from fleetcast.settings import AlertSettings
from fleetcast.store.cycles import ALERTING, begin_cycle
from fleetcast.store.engine import Store
from fleetcast.store.host_labels import load_host_labels
from fleetcast.store.leases import Lease, require_lease
from fleetcast.store.tables import AlertTable, EscalationTable

if TYPE_CHECKING:
    from fleetcast.risk.assess import Risk


class AlertEngine:
    """Opens, joins, sends, escalates and resolves alerts; people acknowledge, resolve and silence them."""

    def __init__(self, store: Store, settings: AlertSettings, routing: Routing, fleet: FleetMap | None = None) -> None:
        self.store, self.settings, self.routing = store, settings, routing
        self.fleet = fleet or FleetMap()

    def observe(
        self,
        risks: Sequence[Risk],
        now: datetime,
        maintenance: frozenset[str] = frozenset(),
        lease: Lease | None = None,
        correlator: Correlator | None = None,
    ) -> AlertChanges:
        """One cycle.

        Args:
            risks: at most one a server; a server without one keeps its alerts as they are.
            now: the time of the cycle; the same time again changes nothing (a repeat after a crash).
            maintenance: servers in planned maintenance: their alerts are kept and not sent.
            lease: what whoever made the risks must still hold, where one of several does.
            correlator: finds the probable upstream of an incident that opens, where samples are at hand.

        Raises `StoreError` when `now` lies over a day before the last cycle, `LeaseLostError` when another process took
        over.
        """
        with self.store.session() as session:
            if lease is not None:
                require_lease(session, lease)
            if not begin_cycle(session, ALERTING, now):
                return AlertChanges(opened=[], resolved=[], escalated=[], updated=[])
            self.fleet.learn(load_host_labels(session))
            return Cycle(session, self.settings, self.routing, self.fleet, now).run(risks, maintenance, correlator)

    def tick(self, now: datetime) -> list[AlertView]:
        """What time alone brings: steps of the ladder that are due, mitigations that took too long.

        Returns the incidents that climbed. May be called as often as one likes, by several processes.
        """
        if not self._anything_due(now):
            return []
        with self.store.session() as session:
            alerts = load_alerts(session, AlertTable.state.in_(LIVE))
            end_mitigations(alerts, now)
            incidents = {incident.alert.id: incident for incident in incidents_of(alerts)}
            return views_of(session, climb(session, incidents, self.routing, now), self.routing)

    def forget(self, now: datetime) -> int:
        """Delete some of the incidents that have been over for `keep_days`; returns how many, 0 when none is left."""
        with self.store.session() as session:
            return forget_over(session, now - timedelta(days=self.settings.keep_days))

    def list_alerts(self, state: AlertState | None = None, limit: int = 200) -> list[AlertView]:
        """Alerts in a state, newest first; without a state all but those that expired before they opened."""
        told = AlertTable.opened_at.is_not(None) | (AlertTable.state != "expired")
        shown = AlertTable.state == state if state else told
        with self.store.reading() as session:
            rows = session.scalars(select(AlertTable).where(shown).order_by(AlertTable.id.desc()).limit(limit)).all()
            return views_of(session, rows, self.routing)

    def live(self) -> list[AlertView]:
        """The incidents that are not over, without the further servers of them."""
        which = AlertTable.state.in_(LIVE) & AlertTable.parent_id.is_(None)
        with self.store.reading() as session:
            rows = session.scalars(select(AlertTable).where(which).order_by(AlertTable.id)).all()
            return views_of(session, rows, self.routing)

    def get(self, alert_id: int) -> AlertView:
        """One alert. Raises `NotFoundError`."""
        with self.store.reading() as session:
            return views_of(session, [_row(session, alert_id)], self.routing)[0]

    def acknowledge(self, alert_id: int, by: str, now: datetime) -> AlertView:
        """Somebody takes the alert's incident: the escalation stops.

        Raises `NotFoundError`, or `ConflictError` unless it is open.
        """
        return self._act(alert_id, lambda session, alert: actions.acknowledge(session, alert, by, now))

    def resolve(self, alert_id: int, by: str, now: datetime) -> AlertView:
        """Somebody says that the alert's incident is over; a risk that stays opens it again.

        Raises `NotFoundError`, or `ConflictError` unless it is live.
        """
        return self._act(alert_id, lambda session, alert: actions.resolve(session, alert, by, now))

    def mitigate(self, alert_id: int, by: str, now: datetime, until: datetime) -> AlertView:
        """A remediation of the alert's incident has begun: nobody is told more, until it ends or `until` is over.

        Raises `NotFoundError`, or `ConflictError` unless it is open or acknowledged.
        """
        return self._act(alert_id, lambda session, alert: actions.mitigate(session, alert, by, now, until))

    def mitigation_failed(self, alert_id: int, why: str, now: datetime) -> AlertView:
        """The remediation did not help: the incident is open again. Raises `NotFoundError`, `ConflictError`."""
        return self._act(alert_id, lambda session, alert: actions.mitigation_failed(session, alert, why, now))

    def silence(
        self, matchers: Sequence[str], span: tuple[datetime, datetime], by: str, comment: str, now: datetime
    ) -> SilenceView:
        """Silence alerts that fit all matchers. Raises `UsageError`."""
        longest = timedelta(hours=self.settings.longest_silence_h)
        with self.store.session() as session:
            return silences.add_silence(session, matchers, span, by, comment, now, longest)

    def end_silence(self, silence_id: int, by: str, now: datetime) -> SilenceView:
        """End a silence now. Raises `NotFoundError`, `ConflictError`."""
        with self.store.session() as session:
            return silences.end_silence(session, silence_id, by, now)

    def silences(self, now: datetime, ended: bool = False) -> list[SilenceView]:
        """Silences that are not over, and with `ended` the others too."""
        with self.store.reading() as session:
            return silences.list_silences(session, now, ended)

    def _anything_due(self, now: datetime) -> bool:
        steps = select(EscalationTable.id).where(EscalationTable.state == "waiting", EscalationTable.due_at <= now)
        late = select(AlertTable.id).where(AlertTable.state == "mitigating", AlertTable.mitigating_until <= now)
        with self.store.reading() as session:
            return any(session.execute(query.limit(1)).first() is not None for query in (steps, late))

    def _act(self, alert_id: int, act: Callable[[Session, AlertTable], None]) -> AlertView:
        with self.store.session() as session:
            alert = _row(session, alert_id)
            act(session, alert)
            return views_of(session, [alert], self.routing)[0]


def _row(session: Session, alert_id: int) -> AlertTable:
    row = session.get(AlertTable, alert_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"there is no alert {alert_id}")
    return row
