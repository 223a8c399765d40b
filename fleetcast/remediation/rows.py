"""Reading and moving the rows of plans, shared by those who decide and those who carry out."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from fleetcast.errors import ConflictError, NotFoundError
from fleetcast.remediation.plan import PlanContent, content_hash
from fleetcast.remediation.present import status_of
from fleetcast.remediation.views import PlanStatus
from fleetcast.store.tables_remediation import PlanTable


def plan_row(session: Session, plan_id: int) -> PlanTable:
    """The row of a plan, locked until the transaction ends where it may write. Raises `NotFoundError`."""
    row = session.get(PlanTable, plan_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"there is no plan {plan_id}")
    return row


def checked_content(row: PlanTable) -> PlanContent:
    """What the plan says. Raises `ConflictError` when it is not what its hash was made of."""
    if content_hash(row.content) != row.hash:
        raise ConflictError(
            f"the content of plan {row.id} no longer fits its hash {row.hash}: it was changed in the store"
        )
    return PlanContent.model_validate_json(row.content)


def expect(row: PlanTable, now: datetime, to: PlanStatus, *wanted: PlanStatus) -> None:
    """Raise `ConflictError` unless the plan has one of the wanted statuses at `now`."""
    found = status_of(row, now)
    if found not in wanted:
        raise ConflictError(f"plan {row.id} is {found}, cannot become {to}: it has to be {' or '.join(wanted)}")


def read_plan(session: Session, plan_id: int) -> PlanTable:
    """The row of a plan, without a lock. Raises `NotFoundError`."""
    row = session.get(PlanTable, plan_id)
    if row is None:
        raise NotFoundError(f"there is no plan {plan_id}")
    return row
