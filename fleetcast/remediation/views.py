"""Remediation plans as plain data: what the API returns and the dashboard shows."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PlanStatus = Literal["proposed", "approved", "executed", "rejected", "expired"]
ApproverRole = Literal["engineer", "director"]
StepStatus = Literal["planned", "started", "would have run"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class StepView(_View):
    """One step of a plan; `wording` says what would have been done, in dry run always "would have ..."."""

    name: str
    integration: str
    action: str
    detail: str
    seconds: int
    status: StepStatus
    wording: str
    action_id: str = Field(description="idempotency key of the step; the same however often it is tried")
    started_at: datetime | None
    finished_at: datetime | None


class BlastRadius(_View):
    """What a plan touches."""

    servers: int
    share_of_profile: float = Field(ge=0, le=1, description="share of the profile's servers")


class PlanView(_View):
    """A remediation plan; an approval binds to `hash`."""

    id: int
    hash: str = Field(description="SHA-256 of the plan's canonical content")
    alert_id: int
    server: str
    profile: str
    playbook: str
    title: str
    status: PlanStatus
    dry_run: bool
    steps: list[StepView]
    integration: str
    estimated_s: int
    approval: str = Field(description="the playbook's approval rule in words")
    approver_role: ApproverRole = Field(description="who may approve it when it is not automatic")
    automatic: bool = Field(description="approved by the policy, not by a person")
    expected_effect: str
    rollback: str
    blast_radius: BlastRadius
    created_at: datetime
    expires_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    executed_by: str | None
    executed_at: datetime | None
