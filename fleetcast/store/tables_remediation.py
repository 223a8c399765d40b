"""The tables of remediation: plans, approvals, what was carried out, what came of it, and the switch that stops all."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from fleetcast.store.tables import Base

IN_FORCE = "status IN ('proposed', 'approved', 'executing', 'verifying', 'rolling_back')"


class PlanTable(Base):
    """A remediation plan; `content` is canonical JSON and `hash` its SHA-256."""

    __tablename__ = "plans"
    __table_args__ = (
        Index(
            "uq_plans_alert_id_in_force",
            "alert_id",
            unique=True,
            sqlite_where=text(IN_FORCE),
            postgresql_where=text(IN_FORCE),
        ),
        Index(None, "alert_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str]
    content: Mapped[str]
    alert_id: Mapped[int] = mapped_column(ForeignKey("alerts.id"))
    profile: Mapped[str]
    mode: Mapped[str]
    requested_by: Mapped[str]
    status: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    executed_by: Mapped[str | None]  # whoever had it carried out
    started_at: Mapped[datetime | None]
    executed_at: Mapped[datetime | None]  # all steps were through
    verify_by: Mapped[datetime | None]  # the post-checks have until then
    ended_at: Mapped[datetime | None]
    reason: Mapped[str | None]  # why it failed, or stands still

    approval: Mapped[ApprovalTable | None] = relationship()
    executions: Mapped[list[ExecutionTable]] = relationship(order_by="ExecutionTable.started_at, ExecutionTable.step")


class ApprovalTable(Base):
    """The approval of a plan, bound to its hash."""

    __tablename__ = "approvals"

    id: Mapped[int] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"), unique=True)
    plan_hash: Mapped[str]
    by: Mapped[str]
    role: Mapped[str]
    at: Mapped[datetime]
    expires_at: Mapped[datetime]


class ExecutionTable(Base):
    """One action: a step of a plan or what takes it back; written before it, completed after it, once."""

    __tablename__ = "executions"
    __table_args__ = (UniqueConstraint("plan_id", "kind", "step"), Index(None, "started_at"))

    action_id: Mapped[str] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    kind: Mapped[str]  # step, or undo
    step: Mapped[int]
    server: Mapped[str | None]  # None: not of one server
    by: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    outcome: Mapped[str | None]  # done, failed or unknown
    result: Mapped[str | None]


class RemediationControlTable(Base):
    """One row that every start of an action locks: the kill switch, and the circuit breaker."""

    __tablename__ = "remediation_control"

    id: Mapped[int] = mapped_column(primary_key=True)
    stopped_by: Mapped[str | None]
    stopped_at: Mapped[datetime | None]
    reason: Mapped[str | None]
    failures: Mapped[int]  # failed plans in a row


class EffectTable(Base):
    """How many servers were acted on (treated) or left alone (control), and how many incidents came all the same."""

    __tablename__ = "effects"
    __table_args__ = (Index(None, "playbook"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    playbook: Mapped[str]
    source: Mapped[str]  # execution, or trial
    arm: Mapped[str]  # treated, or control
    alert_id: Mapped[int | None] = mapped_column(ForeignKey("alerts.id"), unique=True)
    cases: Mapped[int]
    incidents: Mapped[int | None]  # None until it is known
    detail: Mapped[str]


class SimulatedActionTable(Base):
    """What was done to servers of a simulated fleet, in order; the simulation takes each up once."""

    __tablename__ = "simulated_actions"

    id: Mapped[int] = mapped_column(primary_key=True)
    action_id: Mapped[str] = mapped_column(unique=True)
    at: Mapped[datetime]
    server: Mapped[str]
    action: Mapped[str]
    value: Mapped[float]
