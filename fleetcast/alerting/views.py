"""Alerts as plain data: what the API returns and the dashboard shows."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AlertState = Literal["pending", "open", "acknowledged", "mitigating", "resolved", "expired"]
AlertLevel = Literal["P1", "P2", "P3", "P4"]
Action = Literal["trigger", "acknowledge", "resolve", "test"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class EscalationView(_View):
    """One step of the ladder: who is told when nobody has acknowledged."""

    after_s: int = Field(description="seconds after the alert was sent")
    to: str = Field(description="receiver, as `channel: who`")
    due_at: datetime | None = Field(description="None until the alert has been sent, and when nobody waits any more")
    done: bool = Field(description="whether the step has been taken")


class TimelineView(_View):
    """One thing that happened to an alert."""

    at: datetime
    event: str
    detail: str


class NotificationView(_View):
    """One message of the outbox; `status` is "would have sent" in shadow mode, else waiting, sent or failed."""

    channel: str
    to: str
    at: datetime
    status: str
    text: str
    action: Action = "trigger"
    attempts: int = 0
    delivered_at: datetime | None = Field(None, description="when the receiver took it, by the machine's clock")
    error: str | None = Field(None, description="what the last attempt that failed said")


class AlertView(_View):
    """An alert with its timeline and notifications; probabilities 0-1, times UTC."""

    id: int
    key: str = Field(description="deduplication key: server/metric")
    parent_id: int | None = Field(None, description="the incident that it is part of; None: it is the incident")
    parts: int = Field(0, description="further live alerts of the incident")
    server: str
    profile: str
    metric: str
    labels: dict[str, str] = Field(default_factory=dict)
    level: AlertLevel
    state: AlertState
    score: float = Field(description="risk score 0-100")
    p_30m: float | None = Field(description="of the server; None when the incident is open and there is no forecast")
    p_8h: float | None
    first_seen_at: datetime
    opened_at: datetime | None = Field(description="None while pending")
    updated_at: datetime
    resolved_at: datetime | None
    reopened: int = Field(0, description="how often it came back within the cool-down")
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    inhibited_by: str | None = Field(description="what keeps it from being sent: an incident, silence or maintenance")
    suspect: str | None = Field(None, description="a server upstream that the residuals point at")
    message: str
    route: list[str] = Field(description="receivers of the alert, as `channel: who`")
    escalation: list[EscalationView]
    timeline: list[TimelineView]
    notifications: list[NotificationView]


class AlertChanges(_View):
    """What one cycle changed."""

    opened: list[AlertView]
    resolved: list[AlertView]
    escalated: list[AlertView]
    updated: list[AlertView] = Field(description="level or inhibition changed, or sent for the first time")


class EscalationRow(_View):
    """One step of a level's ladder in the routing matrix."""

    after_s: int
    to: str


class RoutingRow(_View):
    """One level of the routing matrix."""

    level: AlertLevel
    meaning: str
    route: list[str]
    respond_within: str
    escalation: list[EscalationRow]
    shadow: bool = True


class SilenceView(_View):
    """Alerts that fit all matchers are not sent from `starts_at` up to `ends_at`."""

    id: int
    matchers: list[str]
    starts_at: datetime
    ends_at: datetime
    created_by: str
    comment: str
    ended_by: str | None = Field(description="who ended it before its time")
