"""Channels that forget: what they were told of a live incident is sent again before long, as Prometheus does.

An Alertmanager keeps alerts in memory; one that was started anew knows none. The newest message of each live incident
goes back into the outbox under its key, so that order, retry and the incident's end are those of any other message.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import LIVE
from fleetcast.alerting.outbox import SENT, WAITING
from fleetcast.store.tables import AlertTable, NotificationTable

FORGETFUL = frozenset({"Alertmanager"})


def due_again(session: Session, before: datetime) -> list[int]:
    """What forgetful channels were told before this time, of incidents that live: ids of the newest messages."""
    row = NotificationTable
    return list(session.scalars(select(row.id).where(row.id.in_(_newest()), row.done_at <= before)))


def send_again(session: Session, ids: Sequence[int]) -> None:
    """Put these messages back among those that wait, where their incidents still live."""
    again = {"status": WAITING, "attempts": 0, "first_tried_at": None, "next_at": None, "error": None}
    still = (NotificationTable.id.in_(ids), NotificationTable.id.in_(_newest()))
    session.execute(update(NotificationTable).where(*still).values(again))


def _newest() -> Select[int]:
    """The newest message that each forgetful receiver was sent of each live incident."""
    row = NotificationTable
    return (
        select(func.max(row.id))
        .join(AlertTable, AlertTable.id == row.alert_id)
        .where(AlertTable.state.in_(LIVE), row.episode == AlertTable.reopened)
        .where(row.action == "trigger", row.channel.in_(FORGETFUL), row.status == SENT)
        .group_by(row.alert_id, row.receiver)
    )
