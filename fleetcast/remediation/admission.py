"""Whether a plan may start now: its approval, its mode, the limits, and the pre-checks that the database knows."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from fleetcast.errors import ConflictError
from fleetcast.remediation import control
from fleetcast.remediation.plan import PlanContent
from fleetcast.remediation.rows import checked_content, expect, plan_row
from fleetcast.remediation.verdict import failed_before
from fleetcast.settings import RemediationSettings


def admit(session: Session, plan_id: int, settings: RemediationSettings, now: datetime) -> PlanContent:
    """The content of a plan that may start now; it stays admitted until the transaction ends.

    Raises `NotFoundError`, `ConflictError` (not approved, expired, changed, made for another mode, a pre-check) and
    `LimitError`.
    """
    row = plan_row(session, plan_id)
    content = checked_content(row)
    expect(row, now, "executing", "approved")
    if row.approval is None or row.approval.plan_hash != row.hash or row.approval.expires_at <= now:
        raise ConflictError(f"the approval of plan {plan_id} is for another content or has expired: propose anew")
    control.require_running(session)
    if content.mode != "dry_run":
        require_mode(plan_id, content, settings)
        control.require_room(session, plan_id, content, settings, now)
        if (reason := failed_before(session, content, now)) is not None:
            raise ConflictError(f"plan {plan_id} is not begun: {reason}; nothing was done")
    return content


def require_mode(plan_id: int, content: PlanContent, settings: RemediationSettings) -> None:
    """Raise `ConflictError` when the settings no longer allow what the plan was approved for."""
    if content.mode not in ("dry_run", settings.mode):
        raise ConflictError(f"plan {plan_id} was made for the mode {content.mode}, the setting is now {settings.mode}")
