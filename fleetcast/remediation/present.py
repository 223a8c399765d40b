"""Rows of the store as plan views."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, and_, or_

from fleetcast.remediation import calls, checks
from fleetcast.remediation.executor import would_have
from fleetcast.remediation.plan import PlanContent, PlannedStep, action_id
from fleetcast.remediation.views import PlanStatus, PlanView, StepStatus, StepView
from fleetcast.store.tables_remediation import ExecutionTable, PlanTable

POLICY = "policy"
WAITING = ("proposed", "approved")


def status_of(row: PlanTable, now: datetime) -> PlanStatus:
    """The status at `now`: what was not begun in time has expired."""
    if row.status in WAITING and now >= row.expires_at:
        return "expired"
    return cast("PlanStatus", row.status)


def has_status(status: PlanStatus, now: datetime) -> ColumnElement[bool]:
    """`status_of` as a condition of a query."""
    if status == "expired":
        late = and_(PlanTable.status.in_(WAITING), PlanTable.expires_at <= now)
        return or_(PlanTable.status == status, late)
    if status in WAITING:
        return and_(PlanTable.status == status, PlanTable.expires_at > now)
    return PlanTable.status == status


def plan_view(row: PlanTable, now: datetime) -> PlanView:
    """The plan at `now`."""
    content = PlanContent.model_validate_json(row.content)
    done = {(one.kind, one.step): one for one in row.executions}
    own = {"steps", "automatic", "servers", "pre_checks", "post_checks", "expires_at", "requested_by"}
    return PlanView(
        **content.model_dump(include=set(PlanView.model_fields) - own),
        **{name: getattr(row, name) for name in PlanView.model_fields if name in _OF_ROW},
        status=status_of(row, now),
        servers=content.all_servers,
        dry_run=content.mode == "dry_run",
        automatic=row.approval is not None and row.approval.role == POLICY,
        approved_by=row.approval.by if row.approval else None,
        approved_at=row.approval.at if row.approval else None,
        pre_checks=[checks.in_words(check) for check in content.pre_checks],
        post_checks=[checks.in_words(check) for check in content.post_checks],
        steps=[
            _step(row, index, step, done.get(("step", index)), done.get(("undo", index)))
            for index, step in enumerate(content.steps)
        ],
    )


_OF_ROW = frozenset(
    {
        "id", "hash", "requested_by", "expires_at", "executed_by", "started_at", "executed_at", "verify_by", "ended_at",
        "reason",
    }
)  # fmt: skip


def _step(
    row: PlanTable, index: int, step: PlannedStep, done: ExecutionTable | None, undone: ExecutionTable | None
) -> StepView:
    return StepView(
        **step.model_dump(include={"name", "server", "integration", "action", "detail", "seconds", "destructive"}),
        call="nothing" if step.call is None else calls.in_words(step.call),
        status=_status(row.mode == "dry_run", done, undone),
        wording=_wording(row.mode == "dry_run", step, done, undone),
        action_id=action_id(row.id, row.hash, index),
        started_at=done.started_at if done else None,
        finished_at=done.finished_at if done else None,
    )


def _status(dry_run: bool, done: ExecutionTable | None, undone: ExecutionTable | None) -> StepStatus:
    if done is None:
        return "planned"
    if done.finished_at is None:
        return "started"
    if dry_run:
        return "would have run"
    if undone is not None and undone.outcome == "done":
        return "taken back"
    return cast("StepStatus", done.outcome)


def _wording(dry_run: bool, step: PlannedStep, done: ExecutionTable | None, undone: ExecutionTable | None) -> str:
    if done is None or done.result is None:
        return would_have(step.done) if dry_run else step.detail
    return done.result if undone is None or undone.result is None else f"{done.result}; {undone.result}"
