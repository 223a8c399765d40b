"""A webhook of one's own: JSON, signed.

`X-FleetCast-Signature: t=SECONDS,v1=HEX` is HMAC-SHA256 of `SECONDS.BODY` with the shared secret; `Idempotency-Key` is
the same for every attempt of one notification, so that a receiver can drop repeats.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from fleetcast.alerting.notifiers.http import canonical, post_bytes
from fleetcast.alerting.notifiers.port import Message
from fleetcast.alerting.outbound import Outbound
from fleetcast.alerting.receivers import Secret, Webhook


class WebhookNotifier:
    """Posts signed JSON."""

    def __init__(self, receiver: Webhook, outbound: Outbound) -> None:
        self._receiver, self._outbound = receiver, outbound

    def send(self, message: Message) -> str | None:
        """Post the notification."""
        address, secret = self._receiver.address, self._receiver.secret
        assert address is not None  # the routing is checked when it is read
        assert secret is not None
        body = canonical(
            {
                "version": 1,
                "key": message.key,
                "incident": message.incident,
                "action": message.action,
                "level": message.level,
                "text": message.text,
                "at": message.at.isoformat(),
                "facts": message.facts,
            }
        )
        headers = {
            "Idempotency-Key": message.key,
            "X-FleetCast-Signature": sign(secret.read(), body, int(time.time())),
        }
        url = address.read() if isinstance(address, Secret) else address
        post_bytes(self._outbound, "the webhook", url, body, headers)
        return None


def sign(secret: str, body: bytes, seconds: int) -> str:
    """The signature header of a body sent at a time (Unix seconds)."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"
