"""The content of a plan: everything that an approval binds to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict

from fleetcast.alerting.views import AlertLevel
from fleetcast.remediation import effects
from fleetcast.remediation.calls import Call, SimulatorCall, fill, filled
from fleetcast.remediation.checks import PostCheck, PreCheck
from fleetcast.remediation.effects import EffectEstimate
from fleetcast.remediation.fleet import Surroundings
from fleetcast.remediation.playbook import Playbook, Step
from fleetcast.remediation.views import ApproverRole, BlastRadius, Mode
from fleetcast.settings import RemediationSettings

Check = TypeVar("Check", bound=BaseModel)

LIFETIME = timedelta(hours=2)
"""After this a proposal no longer fits what it was made for; a new one is made."""


@dataclass(frozen=True)
class Subject:
    """The incident that a plan is made for; the first server names it."""

    alert_id: int
    servers: tuple[str, ...]
    profile: str
    metric: str
    level: AlertLevel
    score: float


class PlannedStep(BaseModel):
    """One step with the names filled in; `call` is what the executor is asked for (None: nothing)."""

    model_config = ConfigDict(frozen=True)

    name: str
    integration: str
    action: str
    detail: str
    done: str
    seconds: int
    destructive: bool
    server: str | None = None
    call: Call | None = None
    undo: Call | None = None


class PlanContent(BaseModel):
    """What a plan says. Fields with a default are not in plans that older versions made."""

    model_config = ConfigDict(frozen=True)

    alert_id: int
    server: str
    servers: list[str] = []
    profile: str
    metric: str
    level: AlertLevel
    playbook: str
    title: str
    integration: str
    steps: list[PlannedStep]
    pre_checks: list[PreCheck] = []
    post_checks: list[PostCheck] = []
    estimated_s: int
    approval: str
    approver_role: ApproverRole
    automatic: bool
    expected_effect: str
    estimate: EffectEstimate | None = None
    rollback: str
    blast_radius: BlastRadius
    mode: Mode = "dry_run"
    requested_by: str = "policy"
    created_at: AwareDatetime
    expires_at: AwareDatetime

    @property
    def all_servers(self) -> list[str]:
        """The servers that it acts on."""
        return self.servers or [self.server]


def make_content(
    subject: Subject,
    playbook: Playbook,
    surroundings: Surroundings,
    settings: RemediationSettings,
    estimate: EffectEstimate | None,
    requested_by: str,
    now: datetime,
) -> PlanContent:
    """The plan of a playbook for an incident; steps are taken server by server."""
    mode = settings.mode
    chosen = playbook.steps_at(subject.level)
    steps = [_planned(step, subject, None, mode) for step in chosen if step.once]
    steps += [_planned(step, subject, name, mode) for name in subject.servers for step in chosen if not step.once]
    names = _names(subject, subject.servers[0])
    return PlanContent(
        alert_id=subject.alert_id,
        server=subject.servers[0],
        servers=list(subject.servers),
        profile=subject.profile,
        metric=subject.metric,
        level=subject.level,
        playbook=playbook.profile,
        title=playbook.title,
        integration=playbook.integration,
        steps=steps,
        pre_checks=[_filled_check(check, names) for check in playbook.checks.pre],
        post_checks=[_filled_check(check, names) for check in playbook.checks.post],
        estimated_s=sum(step.seconds for step in steps),
        approval=playbook.approval_words(),
        approver_role=playbook.approver_at(subject.level),
        automatic=_may_be_automatic(playbook, subject, settings),
        expected_effect=f"{fill(playbook.expected_effect, names)}; {effects.in_words(estimate)}",
        estimate=estimate,
        rollback=fill(playbook.rollback, names),
        blast_radius=surroundings.blast_radius(subject.servers, subject.profile),
        mode=mode,
        requested_by=requested_by,
        created_at=now,
        expires_at=now + LIFETIME,
    )


def canonical(content: PlanContent) -> str:
    """The one text of a content: JSON with sorted keys and no spaces."""
    return json.dumps(content.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def content_hash(text: str) -> str:
    """SHA-256 of a canonical content, in hexadecimal."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def action_id(plan_id: int, plan_hash: str, step: int, kind: str = "step") -> str:
    """The idempotency key of a step, or of what takes it back (kind "undo"): the same however often it is tried."""
    name = f"{plan_id}/{plan_hash}/{step}" if kind == "step" else f"{plan_id}/{plan_hash}/{step}/{kind}"
    return hashlib.sha256(name.encode("ascii")).hexdigest()[:32]


def is_held_out(server: str, share: float) -> bool:
    """Whether a server belongs to the share that is never acted on: the same servers always, whatever the fleet."""
    number = int.from_bytes(hashlib.sha256(f"holdout/{server}".encode()).digest()[:8], "big")
    return number < share * 2**64


def _may_be_automatic(playbook: Playbook, subject: Subject, settings: RemediationSettings) -> bool:
    """Both sides have to allow it, and nothing that destroys is ever automatic."""
    allowed = settings.automatic == "always" or (settings.automatic == "dry_run" and settings.mode == "dry_run")
    destructive = any(step.destructive for step in playbook.steps_at(subject.level))
    return allowed and not destructive and playbook.approval.allows_automatic(subject.score)


def _planned(step: Step, subject: Subject, server: str | None, mode: Mode) -> PlannedStep:
    names = _names(subject, server or subject.servers[0])
    call, undo = _calls(step, mode)
    return PlannedStep(
        **step.model_dump(include={"name", "integration", "action", "seconds", "destructive"}),
        detail=fill(step.detail, names),
        done=fill(step.done, names),
        server=server,
        call=None if call is None else filled(call, names),
        undo=None if undo is None else filled(undo, names),
    )


def _calls(step: Step, mode: Mode) -> tuple[Call | None, Call | None]:
    """What is asked for, and what takes it back."""
    if mode != "simulated":
        return step.run, step.undo
    found = step.simulated
    if found is None or found.action not in ("throttle", "drain", "add_capacity"):
        return found, None
    return found, SimulatorCall(action=found.action, value=1.0)


def _filled_check(check: Check, names: dict[str, str]) -> Check:
    return check.model_copy(update={name: fill(value, names) for name, value in check.model_dump().items()})


def _names(subject: Subject, server: str) -> dict[str, str]:
    return {"server": server, "profile": subject.profile, "metric": subject.metric}
