"""The alert of a plan that acts: mitigating while the plan runs, open again when it did not help."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from fleetcast.alerting import actions
from fleetcast.remediation.plan import PlanContent
from fleetcast.store.tables import AlertTable


def time_of_checks(content: PlanContent) -> timedelta:
    """How long the post-checks wait at most."""
    return timedelta(seconds=max((getattr(check, "within_s", 0) for check in content.post_checks), default=0))


def begin(session: Session, content: PlanContent, by: str, now: datetime) -> None:
    """Tell the alert, which is open again by itself when twice the plan's time and its checks' are over."""
    alert = session.get_one(AlertTable, content.alert_id, with_for_update=True)
    if alert.state in ("open", "acknowledged"):
        until = now + 2 * timedelta(seconds=content.estimated_s) + time_of_checks(content)
        actions.mitigate(session, alert, by, now, until)


def end(session: Session, content: PlanContent, why: str, now: datetime) -> None:
    """Open the alert again: what was done is taken back, or cannot be."""
    alert = session.get_one(AlertTable, content.alert_id, with_for_update=True)
    if alert.state == "mitigating":
        actions.mitigation_failed(session, alert, why, now)
