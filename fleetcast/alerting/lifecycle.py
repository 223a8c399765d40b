"""The state machine of an alert. Every transition goes through `transition`, which writes the timeline with it.

pending ──> open ──> acknowledged ──> resolved ──> open (again, within the cool-down)
   │          ^ │          ^ │            ^
   v          │ v          │ v            │
expired      mitigating ───┴──────────────┘

Whatever is open, acknowledged or mitigating may resolve, and expires when its server is not heard of any more.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import object_session

from fleetcast.alerting.views import AlertState
from fleetcast.errors import ConflictError
from fleetcast.store.tables import AlertEventTable, AlertTable

TRANSITIONS: dict[AlertState, frozenset[AlertState]] = {
    "pending": frozenset({"open", "expired"}),
    "open": frozenset({"acknowledged", "mitigating", "resolved", "expired"}),
    "acknowledged": frozenset({"mitigating", "resolved", "expired"}),
    "mitigating": frozenset({"open", "acknowledged", "resolved", "expired"}),
    "resolved": frozenset({"open"}),
    "expired": frozenset(),
}
OVER: tuple[AlertState, ...] = ("resolved", "expired")
LIVE: tuple[AlertState, ...] = ("open", "acknowledged", "mitigating")


def transition(alert: AlertTable, to: AlertState, at: datetime, detail: str) -> None:
    """Move an alert to another state and write it down, in the caller's transaction.

    Raises `ConflictError` for a transition that the state machine does not have.
    """
    before = alert.state
    allowed = TRANSITIONS[before]  # type: ignore[index]  # the table holds the words of AlertState
    if to not in allowed:
        expected = " or ".join(sorted(allowed)) or "nothing: it is over"
        raise ConflictError(f"alert {alert.id} of {alert.key} is {before}, cannot become {to}; possible: {expected}")
    alert.state, alert.updated_at = to, at
    alert.mitigating_until = None
    if to == "open" and before != "mitigating":
        _begin_episode(alert, at, again=before == "resolved")
    if to in OVER:
        alert.resolved_at, alert.cycles_at_level = at, 0
    write_down(alert, to, at, detail)


def write_down(alert: AlertTable, event: str, at: datetime, detail: str) -> None:
    """Add a line to the timeline, in the caller's transaction."""
    session = object_session(alert)
    assert session is not None  # alerts are in the transaction from their begin on
    session.add(AlertEventTable(alert=alert, at=at, event=event, detail=detail))


def _begin_episode(alert: AlertTable, at: datetime, again: bool) -> None:
    alert.opened_at, alert.parent_id, alert.inhibited_by = at, None, None
    if again:
        alert.reopened += 1
        alert.resolved_at = alert.acknowledged_by = alert.acknowledged_at = None
        alert.sent_level = alert.sent_at = None
