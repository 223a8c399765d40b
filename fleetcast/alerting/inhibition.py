"""What keeps a live incident from being sent: planned maintenance, a silence, or an incident upstream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.incident import Incident
from fleetcast.store.tables import AlertTable

MAINTENANCE = "maintenance"
Quiet = Callable[[AlertTable], str | None]
"""What silences an alert, in words; None when nothing does."""


def inhibitors(
    incidents: Sequence[Incident], maintenance: frozenset[str], fleet: FleetMap, quiet: Quiet
) -> dict[int, str]:
    """What holds each live incident back, by id; incidents that nothing holds back are not in it.

    An incident is held back when all its servers are in planned maintenance or silenced, and by an incident of a
    server directly upstream of its own that is at least as urgent. Where upstreams form a ring, its oldest goes out.

    Args:
        incidents: all that are live.
        maintenance: servers in planned maintenance.
        fleet: who depends on whom.
        quiet: what silences an alert.
    """
    found = {number: words(cause.alert) for number, cause in _causes(incidents, fleet).items()}
    for incident in incidents:
        reasons = [_held(alert, maintenance, quiet) for alert in incident.parts]
        if all(reasons):
            found[incident.alert.id] = str(reasons[0])
    return found


def words(incident: AlertTable) -> str:
    """An incident as what holds others back."""
    return f"incident {incident.id} of {incident.key}"


def _held(alert: AlertTable, maintenance: frozenset[str], quiet: Quiet) -> str | None:
    return MAINTENANCE if alert.server in maintenance else quiet(alert)


def _causes(incidents: Sequence[Incident], fleet: FleetMap) -> dict[int, Incident]:
    ordered = sorted(incidents, key=_age)
    on_server: dict[str, list[Incident]] = defaultdict(list)
    for incident in ordered:
        for server in {alert.server for alert in incident.parts}:
            on_server[server].append(incident)
    causes: dict[int, Incident] = {}
    for incident in ordered:
        upstream = [one for name in fleet.upstreams_of(incident.alert.server) for one in on_server.get(name, ())]
        able = [one for one in upstream if one is not incident and one.level <= incident.level]
        if able:
            causes[incident.alert.id] = min(able, key=_age)
    for incident in ordered:
        if _leads_back(incident, causes):
            del causes[incident.alert.id]
    return causes


def _leads_back(incident: Incident, causes: Mapping[int, Incident]) -> bool:
    """Whether following the causes returns to the incident."""
    seen: set[int] = set()
    cause = causes.get(incident.alert.id)
    while cause is not None and cause.alert.id not in seen:
        if cause is incident:
            return True
        seen.add(cause.alert.id)
        cause = causes.get(cause.alert.id)
    return False


def _age(incident: Incident) -> tuple[float, int]:
    """Sorts older first; live alerts have opened."""
    opened = incident.alert.opened_at
    return (opened.timestamp() if opened else float("inf"), incident.alert.id)
