"""The content of a plan: everything that an approval binds to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict

from fleetcast.alerting.views import AlertLevel, AlertView
from fleetcast.remediation.playbook import Playbook
from fleetcast.remediation.views import ApproverRole, BlastRadius

LIFETIME = timedelta(hours=2)
"""After this a proposal no longer fits what it was made for; a new one is made."""


class PlannedStep(BaseModel):
    """One step with the names filled in."""

    model_config = ConfigDict(frozen=True)

    name: str
    integration: str
    action: str
    detail: str
    done: str
    seconds: int
    destructive: bool


class PlanContent(BaseModel):
    """What a plan says."""

    model_config = ConfigDict(frozen=True)

    alert_id: int
    server: str
    profile: str
    metric: str
    level: AlertLevel
    playbook: str
    title: str
    integration: str
    steps: list[PlannedStep]
    estimated_s: int
    approval: str
    approver_role: ApproverRole
    automatic: bool
    expected_effect: str
    rollback: str
    blast_radius: BlastRadius
    dry_run: bool
    created_at: AwareDatetime
    expires_at: AwareDatetime


def make_content(
    alert: AlertView, playbook: Playbook, now: datetime, fleet_profiles: Mapping[str, str], dry_run: bool
) -> PlanContent:
    """The plan of a playbook for an alert; `fleet_profiles` is the profile of every server of the fleet."""
    names = {"server": alert.server, "profile": alert.profile, "metric": alert.metric}
    steps = [
        PlannedStep(
            **step.model_dump(include={"name", "integration", "action", "seconds", "destructive"}),
            detail=step.detail.format(**names),
            done=step.done.format(**names),
        )
        for step in playbook.steps_at(alert.level)
    ]
    return PlanContent(
        alert_id=alert.id,
        server=alert.server,
        profile=alert.profile,
        metric=alert.metric,
        level=alert.level,
        playbook=playbook.profile,
        title=playbook.title,
        integration=playbook.integration,
        steps=steps,
        estimated_s=sum(step.seconds for step in steps),
        approval=playbook.approval_words(),
        approver_role=playbook.approver_at(alert.level),
        automatic=playbook.approval.allows_automatic(alert.score),
        expected_effect=playbook.expected_effect.format(**names),
        rollback=playbook.rollback.format(**names),
        blast_radius=_blast_radius(alert, fleet_profiles),
        dry_run=dry_run,
        created_at=now,
        expires_at=now + LIFETIME,
    )


def canonical(content: PlanContent) -> str:
    """The one text of a content: JSON with sorted keys and no spaces."""
    return json.dumps(content.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def content_hash(text: str) -> str:
    """SHA-256 of a canonical content, in hexadecimal."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def action_id(plan_id: int, plan_hash: str, step: int) -> str:
    """The idempotency key of a step: the same however often it is tried, another for every other step."""
    return hashlib.sha256(f"{plan_id}/{plan_hash}/{step}".encode("ascii")).hexdigest()[:32]


def _blast_radius(alert: AlertView, fleet_profiles: Mapping[str, str]) -> BlastRadius:
    same = {server for server, profile in fleet_profiles.items() if profile == alert.profile} | {alert.server}
    return BlastRadius(servers=1, share_of_profile=1 / len(same))
