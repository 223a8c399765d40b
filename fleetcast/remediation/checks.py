"""What has to hold before a plan is carried out, and after it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fleetcast.alerting.views import AlertLevel
from fleetcast.remediation.calls import Template


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IncidentLive(_Strict):
    """The incident is still open or acknowledged, and nothing else explains it."""

    check: Literal["incident_live"]


class NoMaintenance(_Strict):
    """None of the servers is in planned maintenance."""

    check: Literal["no_maintenance"]


class Answers(_Strict):
    """A GET of a target of the settings answers with this status."""

    check: Literal["answers"]
    target: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    path: Annotated[Template, Field(pattern=r"^/[^?#\s]*$")]
    status: int = Field(200, ge=100, le=599)


class RiskFalls(_Strict):
    """The incident is over, or less urgent than `below` (none: than when the plan was made), within so many seconds."""

    check: Literal["risk_falls"]
    below: AlertLevel | None = None
    within_s: int = Field(gt=0, le=86_400)


PreCheck = Annotated[IncidentLive | NoMaintenance | Answers, Field(discriminator="check")]
PostCheck = Annotated[RiskFalls | Answers, Field(discriminator="check")]


def in_words(check: IncidentLive | NoMaintenance | Answers | RiskFalls) -> str:
    """The check for people."""
    if isinstance(check, IncidentLive):
        return "the incident is still live"
    if isinstance(check, NoMaintenance):
        return "no server is in planned maintenance"
    if isinstance(check, Answers):
        return f"{check.target} answers {check.status} to GET {check.path}"
    below = check.below or "the level of the plan"
    return f"the incident falls below {below} or is over within {check.within_s // 60} min"
