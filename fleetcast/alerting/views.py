"""Alerts as plain data: what the API returns and the dashboard shows."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AlertState = Literal["pending", "open", "acknowledged", "resolved", "expired"]
AlertLevel = Literal["P1", "P2", "P3", "P4"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class EscalationView(_View):
    """One step of the ladder: who is told when nobody has acknowledged."""

    after_s: int = Field(description="seconds after the alert was sent")
    to: str = Field(description="receiver, as `channel: who`")
    due_at: datetime | None = Field(description="None until the alert has been sent")
    done: bool = Field(description="whether the step has been taken")


class TimelineView(_View):
    """One thing that happened to an alert."""

    at: datetime
    event: str
    detail: str


class NotificationView(_View):
    """One message of the outbox; `status` is "would have sent" in shadow mode."""

    channel: str
    to: str
    at: datetime
    status: str
    text: str


class AlertView(_View):
    """An alert with its timeline and notifications; probabilities 0-1, times UTC."""

    id: int
    key: str = Field(description="deduplication key: server/metric")
    server: str
    profile: str
    metric: str
    level: AlertLevel
    state: AlertState
    score: float = Field(description="risk score 0-100")
    p_30m: float | None = Field(description="of the server; None when the incident is open and there is no forecast")
    p_8h: float | None
    first_seen_at: datetime
    opened_at: datetime | None = Field(description="None while pending")
    updated_at: datetime
    resolved_at: datetime | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    inhibited_by: str | None = Field(description="what keeps it from being sent: an alert or maintenance")
    message: str
    route: list[str] = Field(description="receivers of the level, as `channel: who`")
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
