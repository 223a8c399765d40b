"""One cycle of the whole fleet, within one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from fleetcast.alerting.actions import forget_sent
from fleetcast.alerting.correlation import Correlator
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.grouping import find_parents
from fleetcast.alerting.incident import Incident
from fleetcast.alerting.inhibition import inhibitors, words
from fleetcast.alerting.lifecycle import LIVE, OVER, transition, write_down
from fleetcast.alerting.outbox import load_told
from fleetcast.alerting.present import views_of
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.sending import cancel_ladder, climb, send_level, send_resolved
from fleetcast.alerting.silences import quiet_at
from fleetcast.alerting.tracking import follow
from fleetcast.alerting.views import AlertChanges
from fleetcast.settings import AlertSettings
from fleetcast.store.tables import AlertTable

if TYPE_CHECKING:
    from fleetcast.risk.assess import Risk


MOST_SUSPECTED = 10  # incidents a cycle, so that a storm is not held up


@dataclass(frozen=True)
class Cycle:
    """What a cycle works with."""

    session: Session
    settings: AlertSettings
    routing: Routing
    fleet: FleetMap
    now: datetime

    def run(self, risks: Sequence[Risk], maintenance: frozenset[str], correlator: Correlator | None) -> AlertChanges:
        """Follow all servers; then see what is over, join, hold back, send and escalate."""
        alerts = self._follow(risks)
        end_mitigations(alerts, self.now)
        over = self._end([alert for alert in alerts if alert.state not in OVER])
        live = [alert for alert in alerts if alert.state in LIVE]
        opened = [alert for alert in live if alert.opened_at == self.now]
        self._join(opened, [alert for alert in live if alert.opened_at != self.now])
        incidents = incidents_of(live)
        if correlator is not None:
            self._suspect([one for one in incidents if one.alert.opened_at == self.now], correlator)
        changed = self._hold_back(incidents, maintenance)
        for alert in opened:
            alert.dependent = alert.parent_id is not None or alert.inhibited_by is not None
        told = load_told(self.session, [incident.alert for incident in incidents])
        changed |= {
            incident.alert.id
            for incident in incidents
            if send_level(self.session, incident, self.routing, told, self.now)
        }
        self.session.flush()
        by_id = {incident.alert.id: incident for incident in incidents}
        escalated = climb(self.session, by_id, self.routing, self.now)
        updated = [alert for alert in live if alert.id in changed and alert.opened_at != self.now]
        kinds = {"opened": opened, "resolved": over, "escalated": escalated, "updated": updated}
        return AlertChanges.model_validate(
            {kind: views_of(self.session, found, self.routing) for kind, found in kinds.items()}
        )

    def _follow(self, risks: Sequence[Risk]) -> list[AlertTable]:
        """Carry alerts that are not over, or resolved lately, on; returns them and those that began."""
        since = self.now - timedelta(seconds=self.settings.cool_down_s)
        lately = (AlertTable.resolved_at >= since) | (AlertTable.cycles_at_level > 0)
        which = AlertTable.state.not_in(OVER) | ((AlertTable.state == "resolved") & lately)
        by_server: dict[str, list[AlertTable]] = defaultdict(list)
        for alert in load_alerts(self.session, which):
            by_server[alert.server].append(alert)
        for risk in sorted(risks, key=lambda risk: risk.server):
            labels = self.fleet.labels_of(risk.server)
            by_server[risk.server] = follow(self.session, by_server[risk.server], risk, labels, self.now, self.settings)
        alerts = [alert for of_server in by_server.values() for alert in of_server]
        self.session.flush()
        return alerts

    def _end(self, going: Sequence[AlertTable]) -> list[AlertTable]:
        """Resolve and expire what is over, and tell so; an incident ends with the last of its alerts.

        Returns the alerts that had opened.
        """
        parts: dict[int, int] = defaultdict(int)
        for alert in going:
            if alert.parent_id is not None:
                parts[alert.parent_id] += 1
        over = []
        for alert in sorted(going, key=lambda alert: alert.parent_id is None):
            if not parts[alert.id] and self._ends(alert):
                over.append(alert)
                if alert.parent_id is not None:
                    parts[alert.parent_id] -= 1
        ended = [Incident.of(alert, [alert]) for alert in over if alert.parent_id is None]
        for incident in ended:
            cancel_ladder(self.session, incident.alert.id)
        send_resolved(self.session, ended, self.now)
        return [alert for alert in over if alert.opened_at is not None]

    def _ends(self, alert: AlertTable) -> bool:
        silent = (self.now - alert.seen_at).total_seconds()
        if silent > self.settings.expire_after_s:
            transition(alert, "expired", self.now, f"nothing was heard of its server for {silent / 3600:.0f} h")
        elif alert.cycles_below >= self.settings.resolve_after_cycles:
            transition(alert, "resolved", self.now, f"the risk has been below for {alert.cycles_below} cycles")
        return alert.state in OVER

    def _join(self, opened: Sequence[AlertTable], before: Sequence[AlertTable]) -> None:
        """Make alerts that opened now parts of the incidents that they belong to, in the incident's state."""
        window = timedelta(seconds=self.settings.group_window_s)
        parents = find_parents(opened, before, self.now, window, self.fleet, self.settings.group_by)
        by_id = {alert.id: alert for alert in (*opened, *before)}
        for alert in opened:
            head = by_id.get(parents.get(alert.id, 0))
            if head is None:
                continue
            alert.parent_id, alert.inhibited_by = head.id, words(head)
            write_down(alert, "joined", self.now, words(head))
            write_down(head, "joined", self.now, f"{alert.key} by alert {alert.id}")
            if head.state == "acknowledged":
                transition(alert, "acknowledged", self.now, f"with incident {head.id}")
                alert.acknowledged_by, alert.acknowledged_at = head.acknowledged_by, head.acknowledged_at
            elif head.state == "mitigating":
                transition(alert, "mitigating", self.now, f"with incident {head.id}")
                alert.mitigating_until = head.mitigating_until

    def _suspect(self, fresh: Sequence[Incident], correlator: Correlator) -> None:
        """Name the probable upstream of the largest incidents that opened now."""
        largest = sorted(fresh, key=lambda incident: -len(incident.parts))[:MOST_SUSPECTED]
        for incident in largest:
            found = correlator.find([part.server for part in incident.parts])
            if found is not None:
                incident.alert.suspect = found.server
                detail = f"{found.server} by its residuals, {found.strength:.1f} times what chance gives"
                write_down(incident.alert, "suspect", self.now, detail)

    def _hold_back(self, incidents: Sequence[Incident], maintenance: frozenset[str]) -> set[int]:
        """Note what holds each incident back from now on; returns the ids of those where it changed."""
        quiet = quiet_at(self.session, self.routing, self.now)
        causes = inhibitors(incidents, maintenance, self.fleet, quiet)
        changed = set()
        for alert in (incident.alert for incident in incidents):
            cause = causes.get(alert.id)
            if cause == alert.inhibited_by:
                continue
            detail = f"by {cause}" if cause else "nothing holds it back"
            write_down(alert, "inhibited" if cause else "released", self.now, detail)
            alert.inhibited_by = cause
            changed.add(alert.id)
        return changed


def load_alerts(session: Session, which: ColumnElement[bool]) -> list[AlertTable]:
    """Alerts in the order of their ids, locked."""
    return list(session.scalars(select(AlertTable).where(which).order_by(AlertTable.id).with_for_update()))


def incidents_of(live: Iterable[AlertTable]) -> list[Incident]:
    """Live alerts as incidents."""
    parts: dict[int, list[AlertTable]] = defaultdict(list)
    for alert in live:
        parts[alert.parent_id or alert.id].append(alert)
    heads = (next(one for one in group if one.id == number) for number, group in parts.items())
    return [Incident.of(head, parts[head.id]) for head in heads]


def end_mitigations(alerts: Iterable[AlertTable], now: datetime) -> None:
    """Open again the incidents whose mitigation took too long; the next cycle tells of them anew."""
    for alert in alerts:
        if alert.state == "mitigating" and alert.mitigating_until is not None and alert.mitigating_until <= now:
            transition(alert, "open", now, "the mitigation took too long")
            if alert.parent_id is None:
                forget_sent(alert)
