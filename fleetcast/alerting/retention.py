"""How long incidents are kept that are over."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session, aliased

from fleetcast.alerting.lifecycle import OVER
from fleetcast.store.tables import AlertEventTable, AlertTable, EscalationTable, NotificationTable
from fleetcast.store.tables_remediation import EffectTable, PlanTable

BATCH = 200  # incidents of one transaction, which others wait for


def forget_over(session: Session, before: datetime) -> int:
    """Delete incidents that were over before a time, at most `BATCH`; returns how many.

    With them go their further servers, timeline, ladder and messages. An incident with a remediation plan stays, as the
    record of what was done to machines; measured effects stay without their incident.
    """
    part = aliased(AlertTable)
    belongs = or_(part.id == AlertTable.id, part.parent_id == AlertTable.id)
    going_on = select(part.id).where(belongs, or_(part.state.not_in(OVER), part.updated_at >= before))
    planned = select(PlanTable.id).join(part, part.id == PlanTable.alert_id).where(belongs)
    old = (AlertTable.parent_id.is_(None), AlertTable.state.in_(OVER), AlertTable.updated_at < before)
    heads = select(AlertTable.id).where(*old, ~going_on.exists(), ~planned.exists())
    found = list(session.scalars(heads.order_by(AlertTable.id).limit(BATCH)))
    whole = or_(AlertTable.id.in_(found), AlertTable.parent_id.in_(found))
    gone = list(session.scalars(select(AlertTable.id).where(whole))) if found else []
    for first in range(0, len(gone), BATCH):
        ids = gone[first : first + BATCH]
        session.execute(update(EffectTable).where(EffectTable.alert_id.in_(ids)).values(alert_id=None))
        for table in (AlertEventTable, EscalationTable, NotificationTable):
            session.execute(delete(table).where(table.alert_id.in_(ids)))
        session.execute(delete(AlertTable).where(AlertTable.id.in_(ids)))
    return len(found)
