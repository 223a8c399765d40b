"""PagerDuty Events API v2: trigger, acknowledge and resolve by `dedup_key`.

developer.pagerduty.com/docs/send-alert-event: 202 accepts, 400 refuses, 429 asks to wait, 5xx to try again.
"""

from __future__ import annotations

from fleetcast.alerting.notifiers.http import post_json
from fleetcast.alerting.notifiers.port import Message
from fleetcast.alerting.outbound import Outbound
from fleetcast.alerting.receivers import PagerDuty

SEVERITIES = {"P1": "critical", "P2": "warning", "P3": "info", "P4": "info"}
MOST_SUMMARY = 1024


class PagerDutyNotifier:
    """Sends events with the integration's routing key."""

    def __init__(self, receiver: PagerDuty, outbound: Outbound) -> None:
        self._receiver, self._outbound = receiver, outbound

    def send(self, message: Message) -> str | None:
        """Send an event. A test opens an incident of its own at PagerDuty: resolve it there."""
        action = "trigger" if message.action == "test" else message.action
        assert self._receiver.routing_key is not None  # the routing is checked when it is read
        event: dict[str, object] = {
            "routing_key": self._receiver.routing_key.read(),
            "event_action": action,
            "dedup_key": message.incident,
        }
        if action == "trigger":
            event["payload"] = {
                "summary": message.text[:MOST_SUMMARY],
                "source": message.facts.get("server") or "FleetCast",
                "severity": SEVERITIES[message.level],
                "timestamp": message.at.isoformat(),
                "component": message.facts.get("metric"),
                "group": message.facts.get("profile"),
                "class": message.level,
                "custom_details": message.facts,
            }
            event["client"] = "FleetCast"
        post_json(self._outbound, "PagerDuty", f"{self._receiver.url}/v2/enqueue", event)
        return None
