"""How long incidents are kept that are over."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from fleetcast.alerting.lifecycle import OVER
from fleetcast.store.cycles import ALERTING, forget_before
from fleetcast.store.tables import AlertEventTable, AlertTable, EscalationTable, NotificationTable
from fleetcast.store.tables_remediation import ApprovalTable, EffectTable, PlanTable

BATCH = 20  # incidents of one transaction, which others wait for


def forget_over(session: Session, before: datetime) -> int:
    """Delete incidents that were over before a time, at most `BATCH`; returns how many.

    With them go their further servers, timeline, ladder, messages, and plans of which nothing was carried out. One with
    a plan that was started stays, as the record of what was done to machines. Measured effects stay without their
    incident. The newest alert stays, so that its number is never given out again. What is counted over the whole
    record is counted from `before` on.
    """
    part = aliased(AlertTable)
    belongs = or_(part.id == AlertTable.id, part.parent_id == AlertTable.id)
    newest = select(func.max(AlertTable.id)).scalar_subquery()
    needed = or_(part.state.not_in(OVER), part.updated_at >= before, part.id == newest)
    acted = (
        select(PlanTable.id).join(part, part.id == PlanTable.alert_id).where(belongs, PlanTable.started_at.is_not(None))
    )
    old = (AlertTable.parent_id.is_(None), AlertTable.state.in_(OVER), AlertTable.updated_at < before)
    heads = select(AlertTable.id).where(*old, ~select(part.id).where(belongs, needed).exists(), ~acted.exists())
    found = list(session.scalars(heads.order_by(AlertTable.id).limit(BATCH)))
    whole = or_(AlertTable.id.in_(found), AlertTable.parent_id.in_(found))
    gone = select(AlertTable.id).where(whole)
    if found:
        left = select(PlanTable.id).where(PlanTable.alert_id.in_(gone))
        session.execute(update(EffectTable).where(EffectTable.alert_id.in_(gone)).values(alert_id=None))
        session.execute(delete(ApprovalTable).where(ApprovalTable.plan_id.in_(left)))
        for table in (PlanTable, AlertEventTable, EscalationTable, NotificationTable):
            session.execute(delete(table).where(table.alert_id.in_(gone)))
        session.execute(delete(AlertTable).where(whole))
        forget_before(session, ALERTING, before)
    return len(found)
