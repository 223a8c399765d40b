"""Rows of the store as plan views."""

from __future__ import annotations

from datetime import datetime
from typing import cast

from sqlalchemy import ColumnElement, and_, or_

from fleetcast.remediation.executor import would_have
from fleetcast.remediation.plan import PlanContent, PlannedStep, action_id
from fleetcast.remediation.views import PlanStatus, PlanView, StepStatus, StepView
from fleetcast.store.tables import ExecutionTable, PlanTable

POLICY = "policy"
WAITING = ("proposed", "approved")


def status_of(row: PlanTable, now: datetime) -> PlanStatus:
    """The status at `now`: what was not carried out in time has expired."""
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
    executions = {execution.step: execution for execution in row.executions}
    shared = content.model_dump(include=set(PlanView.model_fields) - {"steps", "automatic"})
    return PlanView(
        **shared,
        id=row.id,
        hash=row.hash,
        status=status_of(row, now),
        automatic=row.approval is not None and row.approval.role == POLICY,
        approved_by=row.approval.by if row.approval else None,
        approved_at=row.approval.at if row.approval else None,
        executed_by=row.executed_by,
        executed_at=row.executed_at,
        steps=[_step(row, index, step, executions.get(index)) for index, step in enumerate(content.steps)],
    )


def _step(row: PlanTable, index: int, step: PlannedStep, execution: ExecutionTable | None) -> StepView:
    status: StepStatus = "planned"
    if execution is not None:
        status = "started" if execution.finished_at is None else "would have run"
    return StepView(
        **step.model_dump(include={"name", "integration", "action", "detail", "seconds"}),
        status=status,
        wording=execution.result if execution is not None and execution.result else would_have(step),
        action_id=action_id(row.id, row.hash, index),
        started_at=execution.started_at if execution else None,
        finished_at=execution.finished_at if execution else None,
    )
