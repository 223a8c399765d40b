"""An incident: alerts of one cause, as one thing to tell people of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetcast.store.tables import AlertTable

NAMED_SERVERS, MOST_SERVERS = 10, 200
MOST_KEY = 255  # PagerDuty's limit of a deduplication key


@dataclass(frozen=True)
class Incident:
    """An alert without a parent, the live alerts of its incident (itself among them), and the level of all."""

    alert: AlertTable
    parts: Sequence[AlertTable]
    level: str

    @classmethod
    def of(cls, alert: AlertTable, parts: Sequence[AlertTable]) -> Incident:
        """The level is the most urgent of the parts that are at their level now; without any, the alert's own."""
        return cls(alert, parts, min((part.level for part in parts if part.cycles_below == 0), default=alert.level))

    @property
    def message(self) -> str:
        """What it is about: the alert that is as urgent as all, and how many servers have it besides."""
        speaker = self.alert
        if speaker.level != self.level or speaker.cycles_below:
            speaker = next((one for one in self.parts if one.level == self.level and not one.cycles_below), speaker)
        others = sorted({part.server for part in self.parts} - {speaker.server})
        text = speaker.message
        if others:
            named = ", ".join(others[:NAMED_SERVERS]) + (", ..." if len(others) > NAMED_SERVERS else "")
            text += f"; with it {len(others)} further server{'s' if len(others) > 1 else ''}: {named}"
        if self.alert.suspect:
            text += f"; probable upstream: {self.alert.suspect}"
        return text


def incident_key(alert: AlertTable) -> str:
    """What receivers know the incident by, the same for all its notifications."""
    return f"fleetcast/{alert.id}/{alert.key}"[:MOST_KEY]


def facts_of(incident: Incident, now: datetime) -> dict[str, Any]:
    """What notifiers make their messages of, as it was when the message was decided."""
    alert = incident.alert
    servers = sorted({part.server for part in incident.parts} | {alert.server})
    return {
        "incident": incident_key(alert),
        "id": alert.id,
        "state": alert.state,
        "level": incident.level,
        "server": alert.server,
        "profile": alert.profile,
        "metric": alert.metric,
        "labels": alert.labels,
        "servers": servers[:MOST_SERVERS],
        "server_count": len(servers),
        "message": incident.message,
        "p_30m": alert.p_30m,
        "p_8h": alert.p_8h,
        "score": alert.score,
        "opened_at": None if alert.opened_at is None else alert.opened_at.isoformat(),
        "at": now.isoformat(),
    }
