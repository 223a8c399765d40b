"""Alertmanager API v2: an incident is an alert with fixed labels; it ends when its end is in the past.

Alertmanager forgets alerts that are not posted again before `endsAt`; so that is far ahead until the incident is over.
Its times are of the machine's clock, which Alertmanager compares with its own.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleetcast.alerting.notifiers.http import post_json
from fleetcast.alerting.notifiers.port import Message
from fleetcast.alerting.outbound import Outbound
from fleetcast.alerting.receivers import Alertmanager

FAR = timedelta(days=7)
TEST = timedelta(minutes=5)


class AlertmanagerNotifier:
    """Posts alerts."""

    def __init__(self, receiver: Alertmanager, outbound: Outbound) -> None:
        self._receiver, self._outbound = receiver, outbound

    def send(self, message: Message) -> str | None:
        """Post the incident as it is now."""
        url, token = self._receiver.url, self._receiver.token
        headers = {} if token is None else {"Authorization": f"Bearer {token.read()}"}
        post_json(
            self._outbound, "Alertmanager", f"{url}/api/v2/alerts", [make_alert(message, datetime.now(UTC))], headers
        )
        return None


def make_alert(message: Message, now: datetime) -> dict[str, object]:
    """The alert of a notification that is posted at `now`.

    Its level is an annotation: labels say which alert it is and stay the same.
    """
    facts = message.facts
    opened = datetime.fromisoformat(facts["opened_at"]) if facts.get("opened_at") else message.at
    lasts = {"resolve": timedelta(0), "test": TEST}.get(message.action, FAR)
    own = {name: str(facts[name]) for name in ("server", "profile", "metric") if facts.get(name)}
    labels = {**facts.get("labels", {}), **own, "alertname": "FleetCast", "incident": message.incident}
    return {
        "labels": {name: value for name, value in labels.items() if value},
        "annotations": {"summary": message.text, "level": message.level, "state": str(facts.get("state", ""))},
        "startsAt": min(opened, message.at, now).isoformat(),
        "endsAt": (now + lasts).isoformat(),
    }
