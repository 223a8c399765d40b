"""From receivers of the routing to notifiers."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fleetcast.alerting import receivers
from fleetcast.alerting.notifiers.alertmanager import AlertmanagerNotifier
from fleetcast.alerting.notifiers.mail import MailNotifier
from fleetcast.alerting.notifiers.pagerduty import PagerDutyNotifier
from fleetcast.alerting.notifiers.port import DeliveryError, Message, Notifier
from fleetcast.alerting.notifiers.slack import SlackNotifier
from fleetcast.alerting.notifiers.webhook import WebhookNotifier
from fleetcast.alerting.outbound import Outbound
from fleetcast.settings import AlertSettings

logger = logging.getLogger(__name__)


class LogNotifier:
    """Says it in the log."""

    def send(self, message: Message) -> str | None:
        """Log the notification."""
        logger.info("%s %s", message.action, message.text)
        return None


class NoNotifier:
    """Of a receiver that nothing can be sent to yet."""

    def __init__(self, receiver: receivers.Receiver) -> None:
        self._label, self._missing = receiver.label, receiver.missing()

    def send(self, message: Message) -> str | None:
        """Raise `DeliveryError`."""
        raise DeliveryError(f"{self._label} lacks {', '.join(self._missing)}", retry=False)


def build_notifiers(found: Mapping[str, receivers.Receiver], settings: AlertSettings) -> dict[str, Notifier]:
    """A notifier for each receiver, by its name. Raises `UsageError` for settings that are wrong."""
    outbound = Outbound(settings.allow_private, settings.timeout_s, settings.ca_file)
    return {name: _build(receiver, outbound, settings) for name, receiver in found.items()}


def _build(receiver: receivers.Receiver, outbound: Outbound, settings: AlertSettings) -> Notifier:
    if receiver.missing():
        return NoNotifier(receiver)
    found: Notifier = LogNotifier()
    match receiver:
        case receivers.PagerDuty():
            found = PagerDutyNotifier(receiver, outbound)
        case receivers.Slack():
            found = SlackNotifier(receiver, outbound)
        case receivers.Email():
            found = MailNotifier(receiver, settings.timeout_s, settings.ca_file)
        case receivers.Webhook():
            found = WebhookNotifier(receiver, outbound)
        case receivers.Alertmanager():
            found = AlertmanagerNotifier(receiver, outbound)
    return found
