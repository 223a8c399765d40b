"""Which alerts have one cause, so that they are one incident before anyone is told.

An alert that opens becomes part of the live incident of its own server. Others that open within a window are joined
when one server directly depends on the other, or when they share a group (same cell and metric, say); joins carry on.
What is joined belongs to the oldest incident among it; without one to the alert furthest upstream, of these to the
most urgent, of these to the oldest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from fleetcast.alerting.fleet import FleetMap, attributes_of
from fleetcast.store.tables import AlertTable

Group = tuple[str, ...]


def find_parents(
    opened: Sequence[AlertTable],
    live: Sequence[AlertTable],
    now: datetime,
    window: timedelta,
    fleet: FleetMap,
    group_by: Sequence[str],
) -> dict[int, int]:
    """The incident of each alert that opened now, by id; alerts that are incidents of their own are not in it.

    `live` are the alerts that were live before, with their parents. No two incidents that were live are joined.
    """
    by_id = {alert.id: alert for alert in live}
    incidents = {alert.id: by_id.get(alert.parent_id or alert.id, alert) for alert in live}
    of_server = {alert.server: incidents[alert.id] for alert in sorted(live, key=_age, reverse=True)}
    parents = {alert.id: of_server[alert.server].id for alert in opened if alert.server in of_server}
    fresh = [alert for alert in opened if alert.id not in parents]
    recent = [alert for alert in live if _opened(incidents[alert.id]) >= now - window]
    sets = _Sets()
    for alert in recent:
        sets.join(alert.id, incidents[alert.id].id)
    _join(sets, [*recent, *fresh], fleet, group_by)
    heads: dict[int, AlertTable] = {}
    for alert in sorted(recent, key=_age, reverse=True):
        heads[sets.find(alert.id)] = incidents[alert.id]
    for component in _components(fresh, sets):
        head = heads.get(sets.find(component[0].id)) or _furthest_upstream(component, fleet)
        parents |= {alert.id: head.id for alert in component if alert is not head}
    return parents


def _join(sets: _Sets, alerts: Sequence[AlertTable], fleet: FleetMap, group_by: Sequence[str]) -> None:
    of_server: dict[str, AlertTable] = {}
    of_group: dict[Group, AlertTable] = {}
    for alert in alerts:
        sets.join(alert.id, of_server.setdefault(alert.server, alert).id)
        group = _group(alert, group_by)
        if group is not None:
            sets.join(alert.id, of_group.setdefault(group, alert).id)
    for alert in alerts:
        for name in fleet.upstreams_of(alert.server):
            if name in of_server:
                sets.join(alert.id, of_server[name].id)


def _group(alert: AlertTable, group_by: Sequence[str]) -> Group | None:
    """The values that say which group an alert is of; None when one is not known."""
    attributes = attributes_of(alert.level, alert.profile, alert.server, alert.metric, alert.labels)
    values = tuple(attributes.get(name, "") for name in group_by)
    return values if values and all(values) else None


def _components(alerts: Iterable[AlertTable], sets: _Sets) -> list[list[AlertTable]]:
    found: dict[int, list[AlertTable]] = defaultdict(list)
    for alert in alerts:
        found[sets.find(alert.id)].append(alert)
    return list(found.values())


def _furthest_upstream(component: Sequence[AlertTable], fleet: FleetMap) -> AlertTable:
    servers = {alert.server for alert in component}
    heads = [alert for alert in component if not fleet.upstreams_of(alert.server) & servers]
    return min(heads or component, key=_urgency)


def _urgency(alert: AlertTable) -> tuple[str, int]:
    """Sorts the most urgent first: P1 before P2; of these the oldest."""
    return (alert.level, alert.id)


class _Sets:
    """Disjoint sets of ids (union-find with path halving)."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def find(self, item: int) -> int:
        parent = self._parent
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def join(self, one: int, other: int) -> None:
        self._parent[self.find(one)] = self.find(other)


def _age(alert: AlertTable) -> tuple[datetime, int]:
    return (_opened(alert), alert.id)


def _opened(alert: AlertTable) -> datetime:
    assert alert.opened_at is not None  # live alerts have opened
    return alert.opened_at
