"""What every notifier is: it delivers one notification, or says whether another attempt makes sense."""

from __future__ import annotations

import email.utils
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from fleetcast.alerting.outbound import Answer
from fleetcast.alerting.views import Action
from fleetcast.errors import FleetCastError

LONGEST_WAIT_S = 6 * 3600.0


@dataclass(frozen=True)
class Message:
    """A notification on its way. `reference` is what the receiver called the incident's first message, where it did."""

    key: str
    action: Action
    level: str
    text: str
    at: datetime
    facts: dict[str, Any]
    reference: str | None = None

    @property
    def incident(self) -> str:
        """What the receiver knows the incident by."""
        return str(self.facts.get("incident") or self.key)


class Notifier(Protocol):
    """Delivers notifications of one channel."""

    def send(self, message: Message) -> str | None:
        """Deliver; returns what the receiver calls it, where it says so. Raises `DeliveryError`."""


class DeliveryError(FleetCastError):
    """A notification was not delivered. `retry`: another attempt may; not before `after_s`, where the receiver said so.

    The message holds no secret: it is stored and shown.
    """

    def __init__(self, message: str, retry: bool = True, after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry, self.after_s = retry, after_s


def require_accepted(answer: Answer, who: str, now: datetime | None = None) -> None:
    """Raise `DeliveryError` unless the status is 2xx: 408, 425, 429 and 5xx may be tried again, the rest not."""
    if 200 <= answer.status < 300:
        return
    again = answer.status in (408, 425, 429) or answer.status >= 500
    said = answer.body[:200].decode("utf-8", "replace").strip()
    raise DeliveryError(
        f"{who} answered {answer.status}" + (f": {said}" if said else ""),
        again,
        retry_after(answer.headers.get("retry-after"), now or datetime.now(UTC)) if again else None,
    )


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds of a `Retry-After` header (RFC 9110, 10.2.3), a number or a date, at most 6 h; None of anything else."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(value) - now).total_seconds()
        except (TypeError, ValueError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT_S)
