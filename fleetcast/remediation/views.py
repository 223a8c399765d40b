"""Remediation plans as plain data: what the API returns and the dashboard shows."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PlanStatus = Literal[
    "proposed",
    "approved",
    "executing",
    "verifying",
    "executed",
    "rolling_back",
    "rolled_back",
    "failed",
    "rejected",
    "expired",
]
Mode = Literal["dry_run", "simulated", "live"]
ApproverRole = Literal["engineer", "director"]
StepStatus = Literal["planned", "started", "would have run", "done", "failed", "unknown", "taken back"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class StepView(_View):
    """One step of a plan; `wording` says what was done, in dry run always "would have ..."."""

    name: str
    server: str | None = Field(description="None for a step that is taken once a plan")
    integration: str
    action: str
    detail: str
    call: str = Field(description="what the executor is asked for")
    seconds: int
    destructive: bool
    status: StepStatus
    wording: str
    action_id: str = Field(description="idempotency key of the step; the same however often it is tried")
    started_at: datetime | None
    finished_at: datetime | None


class BlastRadius(_View):
    """What a plan touches."""

    servers: int
    share_of_profile: float = Field(ge=0, le=1, description="share of the profile's servers")
    share_of_cell: float = Field(1.0, ge=0, le=1, description="share of the servers that depend on one another")


class PlanView(_View):
    """A remediation plan; an approval binds to `hash`."""

    id: int
    hash: str = Field(description="SHA-256 of the plan's canonical content")
    alert_id: int
    server: str
    servers: list[str]
    profile: str
    playbook: str
    title: str
    status: PlanStatus
    mode: Mode
    dry_run: bool
    steps: list[StepView]
    pre_checks: list[str]
    post_checks: list[str]
    integration: str
    estimated_s: int
    approval: str = Field(description="the playbook's approval rule in words")
    approver_role: ApproverRole = Field(description="who may approve it when it is not automatic")
    automatic: bool = Field(description="approved by the policy, not by a person")
    expected_effect: str = Field(description="with an estimate from past executions and trials, where there are any")
    rollback: str
    blast_radius: BlastRadius
    created_at: datetime
    expires_at: datetime = Field(description="of the plan; once it is approved, of its approval")
    requested_by: str = Field(description='"policy", or the person who asked for it: who cannot approve it')
    approved_by: str | None
    approved_at: datetime | None
    executed_by: str | None
    started_at: datetime | None
    executed_at: datetime | None
    verify_by: datetime | None = Field(description="the post-checks have until then")
    ended_at: datetime | None
    reason: str | None = Field(description="why it failed, was rolled back or stands still")
