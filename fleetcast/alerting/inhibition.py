"""Which live alerts another one explains, so that one page is sent and not five."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fleetcast.store.tables import AlertTable

MAINTENANCE = "maintenance"


def inhibitors(
    live: Sequence[AlertTable], maintenance: frozenset[str], upstreams: Mapping[str, Sequence[str]]
) -> dict[int, str]:
    """What keeps each live alert from being sent, by alert id; alerts that nothing inhibits are not in it.

    An alert is inhibited by planned maintenance of its server; by an older alert of the same server that is at least
    as urgent; by a live alert of a server directly upstream. Where upstreams form a ring, its oldest alert goes out.
    """
    explained = _explanations(live, upstreams)
    found = {alert_id: f"alert {cause.id} of {cause.key}" for alert_id, cause in explained.items()}
    found.update({alert.id: MAINTENANCE for alert in live if alert.server in maintenance})
    return found


def _explanations(live: Sequence[AlertTable], upstreams: Mapping[str, Sequence[str]]) -> dict[int, AlertTable]:
    ordered = sorted(live, key=_age)
    by_server: dict[str, list[AlertTable]] = defaultdict(list)
    for alert in ordered:
        by_server[alert.server].append(alert)
    causes: dict[int, AlertTable] = {}
    for alert in ordered:
        cause = _same_server(alert, by_server[alert.server]) or _upstream(alert, by_server, upstreams)
        if cause is not None:
            causes[alert.id] = cause
    for alert in ordered:
        if _leads_back(alert, causes):
            del causes[alert.id]
    return causes


def _same_server(alert: AlertTable, of_server: Sequence[AlertTable]) -> AlertTable | None:
    return next(
        (other for other in of_server if _age(other) < _age(alert) and _urgency(other) <= _urgency(alert)), None
    )


def _upstream(
    alert: AlertTable, by_server: Mapping[str, Sequence[AlertTable]], upstreams: Mapping[str, Sequence[str]]
) -> AlertTable | None:
    names = [name for name in upstreams.get(alert.server, ()) if name != alert.server and name in by_server]
    return min((by_server[name][0] for name in names), key=_age, default=None)


def _leads_back(alert: AlertTable, causes: Mapping[int, AlertTable]) -> bool:
    """Whether following the causes returns to the alert."""
    seen: set[int] = set()
    cause = causes.get(alert.id)
    while cause is not None and cause.id not in seen:
        if cause.id == alert.id:
            return True
        seen.add(cause.id)
        cause = causes.get(cause.id)
    return False


def _age(alert: AlertTable) -> tuple[float, int]:
    """Sorts older first; live alerts have opened."""
    return (alert.opened_at.timestamp() if alert.opened_at else float("inf"), alert.id)


def _urgency(alert: AlertTable) -> str:
    """The most urgent of what it is at and what was sent; P1 sorts before P2."""
    return min(alert.level, alert.sent_level or alert.level)
