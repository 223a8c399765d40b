"""Channels that forget: what they were told of a live incident is sent again before long, as Prometheus does.

An Alertmanager keeps alerts in memory; one that was started anew knows none. The newest message of each live incident
goes back into the outbox under its key, so that order, retry and the incident's end are those of any other message.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.outbox import SENT, WAITING
from fleetcast.store.tables import AlertTable, NotificationTable

FORGETFUL = frozenset({"Alertmanager"})


def renew(session: Session, before: datetime) -> None:
    """Have sent again what forgetful channels were told before this time, of incidents that live."""
    row = NotificationTable
    newest = (
        select(func.max(row.id))
        .join(AlertTable, AlertTable.id == row.alert_id)
        .where(AlertTable.state.in_(LIVE), row.episode == AlertTable.reopened)
        .where(row.action == "trigger", row.channel.in_(FORGETFUL), row.status == SENT)
        .group_by(row.alert_id, row.receiver)
    )
    again = {"status": WAITING, "attempts": 0, "first_tried_at": None, "next_at": None, "error": None}
    due = (row.id.in_(newest), row.status == SENT, row.done_at <= before)
    session.execute(update(row).where(*due).values(again))
