"""What keeps actions within bounds: the kill switch, the circuit breaker, limits of number and the cool-down.

Every start of an action locks one row, so that two processes cannot both take the last free place.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from fleetcast.errors import LimitError
from fleetcast.remediation.plan import PlanContent
from fleetcast.settings import RemediationSettings
from fleetcast.store import audit
from fleetcast.store.tables_remediation import ExecutionTable, PlanTable, RemediationControlTable

BREAKER = "circuit breaker"
RUNNING = ("executing", "rolling_back")
ONLY = 1
HOUR = timedelta(hours=1)


class ControlView(BaseModel):
    """Whether actions may start."""

    model_config = ConfigDict(frozen=True)

    stopped: bool
    stopped_by: str | None = Field(description='a person, or "circuit breaker"')
    stopped_at: datetime | None
    reason: str | None
    failures: int = Field(description="plans that failed in a row")


def control_view(session: Session) -> ControlView:
    """The switch as it is."""
    row = session.get_one(RemediationControlTable, ONLY)
    return ControlView(
        stopped=row.stopped_at is not None, stopped_by=row.stopped_by, stopped_at=row.stopped_at, reason=row.reason,
        failures=row.failures,
    )  # fmt: skip


def stop(session: Session, by: str, reason: str, now: datetime) -> None:
    """Let no action start any more, not even the next step of a plan under way."""
    row = _locked(session)
    if row.stopped_at is None:
        row.stopped_by, row.stopped_at, row.reason = by, now, reason
        audit.record(session, now, by, "stop remediation", "remediation", reason)


def release(session: Session, by: str, now: datetime) -> None:
    """Let actions start again; the circuit breaker counts from 0."""
    row = _locked(session)
    if row.stopped_at is not None:
        audit.record(session, now, by, "release remediation", "remediation", f"was stopped by {row.stopped_by}")
    row.stopped_by = row.stopped_at = row.reason = None
    row.failures = 0


def require_running(session: Session) -> None:
    """Raise `LimitError` when all is stopped; nobody stops it until the transaction ends."""
    row = _locked(session)
    if row.stopped_at is not None:
        raise LimitError(f"remediation is stopped by {row.stopped_by}: {row.reason}")


def count_outcome(session: Session, plan_id: int, well: bool, settings: RemediationSettings, now: datetime) -> None:
    """Count how a plan ended; too many failures in a row stop everything."""
    row = _locked(session)
    row.failures = 0 if well else row.failures + 1
    if row.failures >= settings.breaker_failures and row.stopped_at is None:
        stop(session, BREAKER, f"{row.failures} plans in a row have failed, the last is plan {plan_id}", now)


def require_room(
    session: Session, plan_id: int, content: PlanContent, settings: RemediationSettings, now: datetime
) -> None:
    """Raise `LimitError` when a plan that has effects may not start now, naming the limit."""
    require_running(session)
    others = (PlanTable.id != plan_id, PlanTable.mode != "dry_run")
    same = PlanTable.profile == content.profile
    running = (*others, PlanTable.status.in_(RUNNING))
    late = (*others, ExecutionTable.kind == "step", ExecutionTable.started_at > now - HOUR)
    steps, profile = len(content.steps), content.profile
    for count, setting, what in (
        (_plans(session, *running) + 1, "max_concurrent", "plans at a time"),
        (_plans(session, *running, same) + 1, "max_concurrent_per_profile", f"plans of {profile} at a time"),
        (_actions(session, *late) + steps, "max_actions_per_hour", "actions within an hour"),
        (
            _actions(session, *late, same) + steps,
            "max_actions_per_hour_per_profile",
            f"actions on {profile} within an hour",
        ),
    ):
        limit = getattr(settings, setting)
        if count > limit:
            raise LimitError(f"with this plan there were {count} {what}, the limit is {limit} (setting {setting})")
    _require_cool(session, content, settings, now, *others)


def _require_cool(
    session: Session,
    content: PlanContent,
    settings: RemediationSettings,
    now: datetime,
    *conditions: ColumnElement[bool],
) -> None:
    since = now - timedelta(minutes=settings.cooldown_minutes)
    query = (
        select(ExecutionTable.server, func.max(ExecutionTable.started_at))
        .join(PlanTable, PlanTable.id == ExecutionTable.plan_id)
        .where(*conditions, ExecutionTable.server.in_(content.all_servers), ExecutionTable.started_at > since)
        .group_by(ExecutionTable.server)
    )
    for server, at in session.execute(query):
        raise LimitError(
            f"{server} was acted on at {at.isoformat()} and is left alone for {settings.cooldown_minutes:g} minutes "
            "after an action (setting cooldown_minutes)"
        )


def _plans(session: Session, *conditions: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(PlanTable).where(*conditions)) or 0


def _actions(session: Session, *conditions: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(ExecutionTable).join(PlanTable, PlanTable.id == ExecutionTable.plan_id)
    return session.scalar(query.where(*conditions)) or 0


def _locked(session: Session) -> RemediationControlTable:
    return session.get_one(RemediationControlTable, ONLY, with_for_update=True, populate_existing=True)
