"""Receivers of notifications as the routing describes them; secrets are named, never written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fleetcast.errors import UsageError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Strict):
    """Where a secret is: an environment variable, or a file (its content without white space around it)."""

    env: str | None = Field(None, min_length=1)
    file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("name either `env` or `file`")
        return self

    def read(self) -> str:
        """The secret now. Raises `UsageError` when it is not there; the message never holds it."""
        try:
            found = os.environ.get(self.env, "") if self.env else Path(self.file or "").read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the secret {self.file}: {type(error).__name__}") from None
        if not found.strip():
            raise UsageError(f"the secret {self.env or self.file} is empty or not set")
        return found.strip()


def _http(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        raise ValueError("an address begins with https:// or http://")
    return address.rstrip("/")


Address = Annotated[str, AfterValidator(_http)]


class _Receiver(_Strict):
    to: str = Field(min_length=1, description="who that is, for people")

    @property
    def label(self) -> str:
        """As shown: `channel: who`."""
        return f"{getattr(self, 'channel')}: {self.to}"  # noqa: B009 (each kind has its own)

    def missing(self) -> list[str]:
        """What a receiver that is only described still needs before anything can be sent to it."""
        return []


class PagerDuty(_Receiver):
    """Events API v2 of PagerDuty."""

    channel: Literal["PagerDuty"]
    routing_key: Secret | None = None
    url: Address = "https://events.pagerduty.com"

    def missing(self) -> list[str]:
        """See above."""
        return [] if self.routing_key else ["routing_key"]


class Slack(_Receiver):
    """An incoming webhook, or with a bot's token `chat.postMessage`, which keeps an incident in one thread."""

    channel: Literal["Slack"]
    webhook_url: Secret | None = None
    token: Secret | None = None
    conversation: str | None = Field(None, description="channel id or name that the bot posts to")
    url: Address = "https://slack.com"

    def missing(self) -> list[str]:
        """See above."""
        return (
            [] if self.webhook_url or (self.token and self.conversation) else ["webhook_url (or token, conversation)"]
        )


class Email(_Receiver):
    """Mail over SMTP."""

    channel: Literal["email"]
    host: str | None = None
    port: int = Field(587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: Secret | None = None
    sender: str | None = Field(None, pattern=r"[^@\s]+@[^@\s]+")
    recipients: list[Annotated[str, Field(pattern=r"[^@\s]+@[^@\s]+")]] = Field(default_factory=list)

    def missing(self) -> list[str]:
        """See above."""
        return [name for name in ("host", "sender", "recipients") if not getattr(self, name)]


class Webhook(_Receiver):
    """JSON to any address, signed with a shared secret."""

    channel: Literal["webhook"]
    address: Secret | Address | None = None
    secret: Secret | None = None

    def missing(self) -> list[str]:
        """See above."""
        return [name for name in ("address", "secret") if not getattr(self, name)]


class Alertmanager(_Receiver):
    """API v2 of Alertmanager."""

    channel: Literal["Alertmanager"]
    url: Address | None = None
    token: Secret | None = None

    def missing(self) -> list[str]:
        """See above."""
        return [] if self.url else ["url"]


class Phone(_Receiver):
    """Somebody to call: shown, never sent (PagerDuty calls whom its own rules name)."""

    channel: Literal["phone"]

    def missing(self) -> list[str]:
        """See above."""
        return ["another channel: FleetCast does not phone, PagerDuty does by its own rules"]


class Log(_Receiver):
    """The service's log."""

    channel: Literal["log"]


Receiver = Annotated[PagerDuty | Slack | Email | Webhook | Alertmanager | Phone | Log, Field(discriminator="channel")]
