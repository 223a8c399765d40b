"""The state machine of an alert. Every transition goes through `transition`, which writes the timeline with it.

pending ──> open ──> acknowledged
   │          │           │
   v          └────┬──────┘
expired            v
                resolved
"""

from __future__ import annotations

from datetime import datetime

from fleetcast.alerting.views import AlertState
from fleetcast.errors import ConflictError
from fleetcast.store.tables import AlertEventTable, AlertTable

TRANSITIONS: dict[AlertState, frozenset[AlertState]] = {
    "pending": frozenset({"open", "expired"}),
    "open": frozenset({"acknowledged", "resolved"}),
    "acknowledged": frozenset({"resolved"}),
    "resolved": frozenset(),
    "expired": frozenset(),
}
OVER: tuple[AlertState, ...] = ("resolved", "expired")
LIVE: tuple[AlertState, ...] = ("open", "acknowledged")


def transition(alert: AlertTable, to: AlertState, at: datetime, detail: str) -> None:
    """Move an alert to another state and write it down, in the caller's transaction.

    Raises `ConflictError` for a transition that the state machine does not have.
    """
    allowed = TRANSITIONS[alert.state]  # type: ignore[index]  # the table holds the words of AlertState
    if to not in allowed:
        expected = " or ".join(sorted(allowed)) or "nothing: it is over"
        raise ConflictError(
            f"alert {alert.id} of {alert.key} is {alert.state}, cannot become {to}; possible: {expected}"
        )
    alert.state = to
    alert.updated_at = at
    if to == "open":
        alert.opened_at = at
    if to in OVER:
        alert.resolved_at = at
    write_down(alert, to, at, detail)


def write_down(alert: AlertTable, event: str, at: datetime, detail: str) -> None:
    """Add a line to the timeline, in the caller's transaction."""
    alert.events.add(AlertEventTable(at=at, event=event, detail=detail))
