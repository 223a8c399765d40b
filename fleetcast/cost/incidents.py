"""From alerts to distinct incidents: each counts once, however often it was forecast or alerted on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleetcast.store.tables import AlertTable

SAME_INCIDENT = timedelta(hours=8)
"""The longest that a forecast looks ahead: an alert of the same key within it may be about the same incident."""


@dataclass(frozen=True)
class Incident:
    """One incident; `probability` is None when it was open when first seen, so that nothing was forecast."""

    key: str
    profile: str
    probability: float | None
    confirmed: bool
    over_at: datetime | None


def distinct_incidents(alerts: Iterable[AlertTable]) -> list[Incident]:
    """The incidents behind alerts that opened.

    Alerts that something else explained when they opened are left out (the other one counts). An alert of a key that
    begins within `SAME_INCIDENT` of the end of the one before continues its incident, whose probability stays the one
    that was forecast first.
    """
    incidents: list[Incident] = []
    last: dict[str, int] = {}
    counted = [alert for alert in alerts if alert.opened_at is not None and not alert.dependent]
    for alert in sorted(counted, key=lambda alert: alert.id):
        found = _incident(alert)
        position = last.get(alert.key)
        if position is not None and _continues(incidents[position], alert):
            confirmed = incidents[position].confirmed or found.confirmed
            incidents[position] = replace(incidents[position], confirmed=confirmed, over_at=found.over_at)
        else:
            last[alert.key] = len(incidents)
            incidents.append(found)
    return incidents


def _incident(alert: AlertTable) -> Incident:
    return Incident(alert.key, alert.profile, alert.p_forecast, alert.confirmed_at is not None, alert.resolved_at)


def _continues(incident: Incident, alert: AlertTable) -> bool:
    return incident.over_at is None or alert.first_seen_at <= incident.over_at + SAME_INCIDENT
