"""How a notification leaves: a port of one method, and the adapter of shadow mode, which lets nothing leave."""

from __future__ import annotations

import logging
from typing import Protocol

from fleetcast.alerting.views import NotificationView

logger = logging.getLogger(__name__)


class Notifier(Protocol):
    """Takes notifications after the transaction that wrote them to the outbox."""

    def send(self, notification: NotificationView) -> None:
        """Deliver one notification."""


class LogNotifier:
    """Shadow mode: says in the log what would have been sent."""

    def send(self, notification: NotificationView) -> None:
        """Log the notification."""
        logger.info(
            "%s to %s: %s", notification.status, f"{notification.channel}: {notification.to}", notification.text
        )
