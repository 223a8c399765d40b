"""Whether the checks of a plan hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import LIVE, OVER
from fleetcast.remediation.checks import Answers, IncidentLive, NoMaintenance, RiskFalls, in_words
from fleetcast.remediation.plan import PlanContent
from fleetcast.store.maintenance import load_maintenance
from fleetcast.store.tables import AlertTable
from fleetcast.store.tables_remediation import PlanTable

Probe = Callable[[Answers], str | None]
"""What is wrong with the answer that a check asks for; None when it is as it should be."""


@dataclass(frozen=True)
class Verdict:
    """Whether the post-checks still wait, or how they ended."""

    waits: bool
    well: bool
    reason: str = ""


def failed_before(session: Session, content: PlanContent, now: datetime) -> str | None:
    """The first pre-check that does not hold, of those that the store knows; None when all do."""
    alert = session.get(AlertTable, content.alert_id)
    for check in content.pre_checks:
        if isinstance(check, IncidentLive) and (
            alert is None or alert.state not in LIVE or alert.inhibited_by is not None
        ):
            return f"the pre-check '{in_words(check)}' does not hold"
        if isinstance(check, NoMaintenance):
            planned = {window.server for window in load_maintenance(session) if window.start <= now < window.end}
            held = sorted(planned & set(content.all_servers))
            if held:
                return f"the pre-check '{in_words(check)}' does not hold: {', '.join(held)} is"
    return None


def wrong_answer(checks: Iterable[object], probe: Probe) -> str | None:
    """The first answer of a target that is not as it should be."""
    for check in checks:
        if isinstance(check, Answers) and (wrong := probe(check)) is not None:
            return f"the check '{in_words(check)}' does not hold: {wrong}"
    return None


def verdict(session: Session, content: PlanContent, plan: PlanTable, probe: Probe, now: datetime) -> Verdict:
    """How the post-checks of a plan that was carried out stand at `now`."""
    for check in content.post_checks:
        if isinstance(check, RiskFalls):
            below = check.below or content.level
            if not all(_has_fallen(alert, below, plan.executed_at) for alert in _treated(session, content)):
                late = plan.verify_by is None or now >= plan.verify_by
                return Verdict(not late, False, f"the post-check '{in_words(check)}' failed")
    wrong = wrong_answer(content.post_checks, probe)
    return Verdict(False, wrong is None, wrong or "")


def _treated(session: Session, content: PlanContent) -> Sequence[AlertTable]:
    """The alerts of the incident on the servers that the plan acts on, for the same metric."""
    incident = or_(AlertTable.id == content.alert_id, AlertTable.parent_id == content.alert_id)
    same = (AlertTable.server.in_(content.all_servers), AlertTable.metric == content.metric)
    return session.scalars(select(AlertTable).where(incident, *same)).all()


def _has_fallen(alert: AlertTable, below: str, since: datetime | None) -> bool:
    """Whether an alert is over, or has been seen less urgent than a level since a time.

    At no level any more, it keeps its last until it ends.
    """
    seen = since is None or alert.seen_at > since
    return alert.state in OVER or (seen and (alert.level > below or alert.cycles_below > 0))
