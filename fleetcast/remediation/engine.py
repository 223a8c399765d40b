"""Remediation: a plan for an alert, its approval, and its execution, which is a dry run."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.views import AlertView
from fleetcast.errors import ConflictError, NotFoundError, PermissionDeniedError
from fleetcast.remediation.executor import DryRunExecutor, Executor
from fleetcast.remediation.plan import PlanContent, action_id, canonical, content_hash, make_content
from fleetcast.remediation.playbook import FALLBACK_PROFILE, load_playbooks
from fleetcast.remediation.present import POLICY, has_status, plan_view, status_of
from fleetcast.remediation.views import ApproverRole, PlanStatus, PlanView
from fleetcast.store import audit
from fleetcast.store.engine import Store
from fleetcast.store.tables import AlertTable, ApprovalTable, ExecutionTable, PlanTable

SCOPE_OF_ROLE: dict[ApproverRole, str] = {"engineer": "approve", "director": "admin"}


class RemediationEngine:
    """Proposes plans from the playbooks of the package and keeps them in the store.

    One engine a database carries plans out: a step that was started and not finished is one that a crash interrupted.
    """

    def __init__(self, store: Store, executor: Executor | None = None) -> None:
        self.store = store
        self.executor: Executor = executor or DryRunExecutor()
        self.playbooks = load_playbooks()
        self._executing = threading.Lock()

    def propose(self, alert: AlertView, now: datetime, fleet_profiles: Mapping[str, str]) -> PlanView | None:
        """The plan of a live alert, made when it has none in force; one that expired is followed by a new one.

        None when there is nothing to propose: the alert is over, something else explains it, or its level asks for no
        action. `fleet_profiles` is the profile of every server, for the blast radius. Raises `NotFoundError` when the
        store does not have the alert.
        """
        with self.store.session() as session:
            row = session.get(AlertTable, alert.id, with_for_update=True)
            if row is None:
                raise NotFoundError(f"there is no alert {alert.id}")
            playbook = self.playbooks.get(alert.profile, self.playbooks[FALLBACK_PROFILE])
            if row.state not in LIVE or row.inhibited_by is not None or alert.level not in playbook.trigger.levels:
                return None
            plan = session.scalars(
                select(PlanTable).where(PlanTable.alert_id == alert.id, PlanTable.status != "expired")
            ).one_or_none()
            if plan is not None and status_of(plan, now) == "expired":
                plan.status = "expired"
                session.flush()
                plan = None
            if plan is None:
                content = make_content(alert, playbook, now, fleet_profiles, self.executor.dry_run)
                plan = _add_plan(session, content, now)
            return plan_view(plan, now)

    def list_plans(self, now: datetime, status: PlanStatus | None = None, limit: int = 200) -> list[PlanView]:
        """Plans as they are at `now`, those with a status or all: the newest `limit`, newest first."""
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

    def get(self, plan_id: int, now: datetime) -> PlanView:
        """One plan. Raises `NotFoundError`."""
        with self.store.reading() as session:
            return plan_view(_row(session, plan_id), now)

    def approve(self, plan_id: int, plan_hash: str, by: str, scopes: Collection[str], now: datetime) -> PlanView:
        """A person approves exactly the plan with this hash.

        Raises `NotFoundError`; `PermissionDeniedError` when `scopes` lack that of the plan's role (engineer: approve,
        director: admin); `ConflictError` when the hash is another's or the plan does not wait for approval.
        """
        with self.store.session() as session:
            row = _row(session, plan_id)
            role = _checked_content(row).approver_role
            _require(scopes, role)
            _expect(row, now, "proposed", "approved")
            if plan_hash != row.hash:
                raise ConflictError(
                    f"plan {plan_id} has the hash {row.hash}, the approval is for {plan_hash}: read the plan again"
                )
            _approve(session, row, by, role, now)
            return plan_view(row, now)

    def reject(self, plan_id: int, by: str, scopes: Collection[str], now: datetime) -> PlanView:
        """A person decides against a plan of which nothing has been carried out.

        Raises as `approve` does.
        """
        with self.store.session() as session:
            row = _row(session, plan_id)
            _require(scopes, _checked_content(row).approver_role)
            if row.executions:
                raise ConflictError(f"plan {plan_id} has been started: it can no longer be rejected")
            _expect(row, now, "approved" if row.approval else "proposed", "rejected")
            row.status = "rejected"
            audit.record(session, now, by, "reject plan", str(plan_id), row.hash)
            return plan_view(row, now)

    def execute(self, plan_id: int, by: str, now: datetime) -> PlanView:
        """Carry out an approved plan, every step once: recorded before it and after it under its action id.

        Called again it goes on where it was interrupted, and changes nothing when it is through; called twice at once
        the second waits for the first. Raises `NotFoundError`; `ConflictError` when the plan is not approved, or
        expired, also when that happens between its steps.
        """
        with self._executing:
            return self._carry_out(plan_id, by, now)

    def _carry_out(self, plan_id: int, by: str, now: datetime) -> PlanView:
        with self.store.session() as session:
            row = _row(session, plan_id)
            content = _checked_content(row)
            if row.status == "executed":
                return plan_view(row, now)
            _expect(row, now, "approved", "executed")
            if row.approval is None or row.approval.plan_hash != row.hash:
                raise ConflictError(f"the approval of plan {plan_id} is for another content: propose it again")
            plan_hash = row.hash
        for index in range(len(content.steps)):
            self._perform(plan_id, plan_hash, content, index, by, now)
        with self.store.session() as session:
            row = _row(session, plan_id)
            if row.status != "executed":
                _expect(row, now, "approved", "executed")
                row.status, row.executed_by, row.executed_at = "executed", by, now
                audit.record(session, now, by, "execute plan (dry run)", str(plan_id), row.hash)
            return plan_view(row, now)

    def _perform(self, plan_id: int, plan_hash: str, content: PlanContent, index: int, by: str, now: datetime) -> None:
        """One step. Found started and not finished, it is tried again under the same action id."""
        key = action_id(plan_id, plan_hash, index)
        with self.store.session() as session:
            row = _row(session, plan_id)  # locked: nobody rejects it between this check and the record of the start
            execution = session.get(ExecutionTable, key)
            if execution is not None and execution.finished_at is not None:
                return
            _expect(row, now, "approved", "executed")
            if execution is None:
                session.add(ExecutionTable(action_id=key, plan_id=plan_id, step=index, by=by, started_at=now))
        result = self.executor.perform(key, content.steps[index])
        with self.store.session() as session:
            execution = session.get_one(ExecutionTable, key, with_for_update=True)
            if execution.finished_at is None:
                execution.finished_at, execution.result = now, result


def _add_plan(session: Session, content: PlanContent, now: datetime) -> PlanTable:
    text = canonical(content)
    plan = PlanTable(
        hash=content_hash(text),
        content=text,
        alert_id=content.alert_id,
        status="proposed",
        created_at=content.created_at,
        expires_at=content.expires_at,
    )
    session.add(plan)
    session.flush()
    audit.record(session, now, POLICY, "propose plan", str(plan.id), plan.hash)
    if content.automatic:
        _approve(session, plan, POLICY, POLICY, now)
    return plan


def _approve(session: Session, row: PlanTable, by: str, role: str, now: datetime) -> None:
    row.status = "approved"
    row.approval = ApprovalTable(plan_hash=row.hash, by=by, role=role, at=now)
    audit.record(session, now, by, f"approve plan as {role}", str(row.id), row.hash)


def _row(session: Session, plan_id: int) -> PlanTable:
    row = session.get(PlanTable, plan_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"there is no plan {plan_id}")
    return row


def _checked_content(row: PlanTable) -> PlanContent:
    if content_hash(row.content) != row.hash:
        raise ConflictError(
            f"the content of plan {row.id} no longer fits its hash {row.hash}: it was changed in the store"
        )
    return PlanContent.model_validate_json(row.content)


def _require(scopes: Collection[str], role: ApproverRole) -> None:
    needed = SCOPE_OF_ROLE[role]
    if needed not in scopes and "admin" not in scopes:
        raise PermissionDeniedError(f"the plan needs the {role}'s approval: scope {needed!r}, found {sorted(scopes)}")


def _expect(row: PlanTable, now: datetime, wanted: PlanStatus, to: PlanStatus) -> None:
    found = status_of(row, now)
    if found != wanted:
        raise ConflictError(f"plan {row.id} is {found}, cannot become {to}: it has to be {wanted}")
