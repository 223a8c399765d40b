"""Deciding on remediation: a plan for an incident, its approval or rejection. `runner` carries it out."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.views import AlertLevel
from fleetcast.clock import Clock
from fleetcast.errors import ConflictError, NotFoundError, PermissionDeniedError
from fleetcast.remediation import effects
from fleetcast.remediation.fleet import Surroundings
from fleetcast.remediation.plan import PlanContent, Subject, canonical, content_hash, is_held_out, make_content
from fleetcast.remediation.playbook import FALLBACK_PROFILE, load_playbooks
from fleetcast.remediation.present import POLICY, has_status, plan_view, status_of
from fleetcast.remediation.rows import checked_content, expect, plan_row
from fleetcast.remediation.views import ApproverRole, PlanStatus, PlanView
from fleetcast.settings import RemediationSettings
from fleetcast.store import audit
from fleetcast.store.engine import Store
from fleetcast.store.tables import AlertTable
from fleetcast.store.tables_remediation import ApprovalTable, PlanTable

ENDED: tuple[PlanStatus, ...] = ("executed", "rolled_back", "failed", "rejected")
SCOPE_OF_ROLE: dict[ApproverRole, str] = {"engineer": "approve", "director": "admin"}


class RemediationEngine:
    """Proposes plans from playbooks and keeps them, and what people decide about them, in the store.

    Raises `UsageError` when a playbook is wrong.
    """

    def __init__(self, store: Store, clock: Clock, settings: RemediationSettings) -> None:
        self.store, self.clock, self.settings = store, clock, settings
        self.playbooks = load_playbooks(settings.playbooks)

    def propose(self, alert_id: int, surroundings: Surroundings, by: str | None = None) -> PlanView | None:
        """The plan of a live alert, made when it has none in force; one that expired is followed by a new one.

        A person who asks (`by`; None is the policy) gets a plan of theirs in place of one that waits for approval. One
        of the policy's that waits for approval is replaced when its incident has further servers by now, or is at a
        more urgent level.

        None when there is nothing to propose: the alert is over, something else explains it, its level asks for no
        action, or its server belongs to those that are never acted on. Raises `NotFoundError` when the store does
        not have the alert, `ConflictError` when its plan has gone too far to be replaced.
        """
        if by == POLICY:
            raise PermissionDeniedError(f"nobody who is called {POLICY!r} asks for plans: use a key of another name")
        now, by = self.clock.now(), by or POLICY
        with self.store.session() as session:
            alert = session.get(AlertTable, alert_id, with_for_update=True)
            if alert is None:
                raise NotFoundError(f"there is no alert {alert_id}")
            share = 0.0 if self.settings.mode == "dry_run" else self.settings.holdout_share
            subject = _subject(session, alert, share)
            playbook = self.playbooks.get(subject.profile, self.playbooks[FALLBACK_PROFILE])
            if alert.state not in LIVE or alert.inhibited_by is not None:
                return None
            if subject.level not in playbook.trigger.levels or self._holds_out(session, subject, playbook.profile, now):
                return None
            plan = _in_force(session, alert, subject, by, now)
            if plan is None:
                estimate = effects.estimate(session, playbook.profile)
                content = make_content(subject, playbook, surroundings, self.settings, estimate, by, now)
                plan = self._add(session, content, now)
            return plan_view(plan, now)

    def list_plans(self, status: PlanStatus | None = None, limit: int = 200) -> list[PlanView]:
        """Plans as they are now, those with a status or all: the newest `limit`, newest first."""
        now = self.clock.now()
        query = (
            select(PlanTable)
            .options(selectinload(PlanTable.approval), selectinload(PlanTable.executions))
            .order_by(PlanTable.id.desc())
            .limit(limit)
        )
        if status is not None:
            query = query.where(has_status(status, now))
        with self.store.reading() as session:
            return [plan_view(row, now) for row in session.scalars(query)]

    def get(self, plan_id: int) -> PlanView:
        """One plan. Raises `NotFoundError`."""
        with self.store.reading() as session:
            row = session.get(PlanTable, plan_id)
            if row is None:
                raise NotFoundError(f"there is no plan {plan_id}")
            return plan_view(row, self.clock.now())

    def approve(self, plan_id: int, plan_hash: str, by: str, scopes: Collection[str]) -> PlanView:
        """A person approves exactly the plan with this hash; the approval expires.

        Raises `NotFoundError`; `PermissionDeniedError` when `scopes` lack that of the plan's role (engineer: approve,
        director: admin), or `by` asked for the plan; `ConflictError` when the hash is another's or the plan does not
        wait for approval.
        """
        now = self.clock.now()
        with self.store.session() as session:
            row = plan_row(session, plan_id)
            role = checked_content(row).approver_role
            _require(scopes, role)
            expect(row, now, "approved", "proposed")
            if plan_hash != row.hash:
                raise ConflictError(
                    f"plan {plan_id} has the hash {row.hash}, the approval is for {plan_hash}: read the plan again"
                )
            if by == row.requested_by != POLICY:
                raise PermissionDeniedError(f"{by} asked for plan {plan_id}: somebody else has to approve it")
            self._approve(session, row, by, role, now)
            return plan_view(row, now)

    def reject(self, plan_id: int, by: str, scopes: Collection[str]) -> PlanView:
        """A person decides against a plan of which nothing has been carried out.

        Raises `NotFoundError`, `PermissionDeniedError` (see `approve`; whoever asked for it may take it back) and
        `ConflictError` when it was started or is over.
        """
        now = self.clock.now()
        with self.store.session() as session:
            row = plan_row(session, plan_id)
            if by != row.requested_by or row.requested_by == POLICY:
                _require(scopes, checked_content(row).approver_role)
            expect(row, now, "rejected", "proposed", "approved")
            row.status, row.ended_at = "rejected", now
            audit.record(session, now, by, "reject plan", str(plan_id), row.hash)
            return plan_view(row, now)

    def _holds_out(self, session: Session, subject: Subject, playbook: str, now: datetime) -> bool:
        """Whether the incident is left alone, so that the effect of acting on others can be measured."""
        share = self.settings.holdout_share
        if self.settings.mode == "dry_run" or not any(is_held_out(name, share) for name in subject.servers):
            return False
        effects.note_case(session, now, playbook, "control", subject.alert_id, "held out")
        return True

    def _add(self, session: Session, content: PlanContent, now: datetime) -> PlanTable:
        text = canonical(content)
        plan = PlanTable(
            hash=content_hash(text), content=text, alert_id=content.alert_id, profile=content.profile,
            mode=content.mode, requested_by=content.requested_by, status="proposed", created_at=content.created_at,
            expires_at=content.expires_at,
        )  # fmt: skip
        session.add(plan)
        session.flush()
        audit.record(session, now, content.requested_by, "propose plan", str(plan.id), plan.hash)
        if content.automatic:
            self._approve(session, plan, POLICY, POLICY, now)
        return plan

    def _approve(self, session: Session, row: PlanTable, by: str, role: str, now: datetime) -> None:
        until = min(row.expires_at, now + timedelta(minutes=self.settings.approval_minutes))
        row.status, row.expires_at = "approved", until
        row.approval = ApprovalTable(plan_hash=row.hash, by=by, role=role, at=now, expires_at=until)
        audit.record(session, now, by, f"approve plan as {role}", str(row.id), row.hash)


def _subject(session: Session, alert: AlertTable, holdout_share: float) -> Subject:
    """The alert's server and those of its incident with the same trouble; dependants are helped by helping it.

    Of these others the ones that are never acted on are left out, and those whose risk has passed by now. Level and
    score are the worst of all that are acted on: who may approve, and what is done, depends on them.
    """
    same = (AlertTable.profile == alert.profile, AlertTable.metric == alert.metric, AlertTable.server != alert.server)
    now_at_level = (AlertTable.state.in_(LIVE), AlertTable.cycles_below == 0)
    others = select(AlertTable).where(AlertTable.parent_id == alert.id, *now_at_level, *same)
    found = session.scalars(others.order_by(AlertTable.server))
    acted = [alert, *(one for one in found if not is_held_out(one.server, holdout_share))]
    worst = [one for one in acted if one.cycles_below == 0] or [alert]
    level = cast("AlertLevel", min(one.level for one in worst))  # P1 is the most urgent
    servers = tuple(dict.fromkeys(one.server for one in acted))
    return Subject(alert.id, servers, alert.profile, alert.metric, level, max(one.score for one in worst))


def _in_force(session: Session, alert: AlertTable, subject: Subject, by: str, now: datetime) -> PlanTable | None:
    """The newest plan of an alert that is neither expired nor, when a person asks, still without approval.

    One that is through stands for the alert until this has come back (`opened_at`). One that the incident has outgrown
    stands while it is approved: what was approved is what is done.
    """
    query = select(PlanTable).where(PlanTable.alert_id == alert.id, PlanTable.status != "expired")
    plan = session.scalars(query.order_by(PlanTable.id.desc()).limit(1).with_for_update()).first()
    if plan is None:
        return None
    status = status_of(plan, now)
    if status in ENDED and alert.opened_at is not None and plan.created_at < alert.opened_at:
        return None
    why = None
    if status == "proposed" and by != POLICY:
        why = f"{by} asked for a new one"
    elif status == "proposed" and plan.requested_by == POLICY:
        why = _outgrown(PlanContent.model_validate_json(plan.content), subject)
    if status == "expired" or why is not None:
        plan.status, plan.ended_at, plan.reason = "expired", now, why
        session.flush()
        return None
    if by != POLICY:
        raise ConflictError(f"plan {plan.id} for alert {alert.id} is {status}: there is no other beside it")
    return plan


def _outgrown(content: PlanContent, subject: Subject) -> str | None:
    """Why a plan that waits is no longer the one that its incident asks for."""
    further = set(subject.servers) - set(content.all_servers)
    if further:
        return f"the incident has grown by {', '.join(sorted(further))}"
    return f"the incident is at {subject.level}" if subject.level < content.level else None


def _require(scopes: Collection[str], role: ApproverRole) -> None:
    needed = SCOPE_OF_ROLE[role]
    if needed not in scopes and "admin" not in scopes:
        raise PermissionDeniedError(f"the plan needs the {role}'s approval: scope {needed!r}, found {sorted(scopes)}")
