"""Bodies and answers of the routes of remediation, cost and the audit trail, besides the models of those rooms."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from fleetcast.remediation.control import ControlView
from fleetcast.remediation.effects import EffectEstimate
from fleetcast.remediation.simulated_executor import SimulatedAction
from fleetcast.remediation.views import Mode
from fleetcast.settings import CostSettings


class PlanRequest(BaseModel):
    """Ask for a plan for an alert: the caller cannot approve it."""

    model_config = ConfigDict(extra="forbid")

    alert_id: int = Field(ge=1, le=2**62)


class StopRequest(BaseModel):
    """Stop all remediation."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=500)


class RemediationStatus(BaseModel):
    """What remediation may do, and whether it is stopped."""

    mode: Mode
    control: ControlView


class SimulatedActions(BaseModel):
    """What was done to the simulated fleet, in order."""

    items: list[SimulatedAction]


class Effects(BaseModel):
    """What past executions and trials say of each playbook; one without cases of both kinds is not in it."""

    playbooks: dict[str, EffectEstimate]


class AuditItem(BaseModel):
    """One entry of the audit trail; `hash` covers it and all before it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: str
    hash: str


class AuditPage(BaseModel):
    """Entries of the audit trail, newest first; `before` of the next page is the last id."""

    items: list[AuditItem]


class AuditCheck(BaseModel):
    """The trail is sound up to its head, which is worth noting elsewhere."""

    model_config = ConfigDict(from_attributes=True)

    entries: int
    last: int
    hash: str


class AssumptionItem(BaseModel):
    """Assumptions that were saved; the first of a list are in force."""

    values: CostSettings
    author: str
    at: datetime | None


class AssumptionHistory(BaseModel):
    """All assumptions, newest first; those of the settings come last."""

    items: list[AssumptionItem]
