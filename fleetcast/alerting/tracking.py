"""One cycle of one server: which of its alerts begin, open, go on, or are below their level.

An alert is at its level while its metric drives the server's risk at P1-P3. When another metric drives, it still is
while its own P(8 h) is above the lowest that a level can have, or while an incident is open on the server; it then
keeps what it said last. So two metrics that take turns neither resolve nor open each other's alerts. Below, it keeps
its level until it resolves, and shows the probabilities of now. One that resolved within the cool-down is followed
too: when its metric drives the risk again for as long as a new alert would have to, it opens again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import LIVE, transition, write_down
from fleetcast.alerting.message import describe
from fleetcast.risk.levels import P2_30M
from fleetcast.settings import AlertSettings
from fleetcast.store.tables import AlertTable

if TYPE_CHECKING:
    from fleetcast.risk.assess import Risk

NOT_AN_ALERT = "P4"


def key_of(server: str, metric: str) -> str:
    """The deduplication key."""
    return f"{server}/{metric}"


def says_nothing(risk: Risk) -> bool:
    """Whether the risk is no information: neither a forecast nor an open incident. Alerts then stay as they are."""
    return risk.p_8h is None and not risk.open


def at_level(risk: Risk) -> bool:
    """Whether the server's risk is at a level that alerts."""
    return risk.level != NOT_AN_ALERT and risk.metric is not None


def drives(alert: AlertTable, risk: Risk) -> bool:
    """Whether the alert's metric drives a risk that alerts."""
    return at_level(risk) and risk.metric == alert.metric


def is_held(alert: AlertTable, risk: Risk) -> bool:
    """Whether the alert stays although another metric drives the risk."""
    if not at_level(risk):
        return False
    own = risk.metric_probabilities.get(alert.metric, 0.0)
    return own > P2_30M or (risk.open and alert.state in LIVE)


def follow(
    session: Session,
    alerts: Sequence[AlertTable],
    risk: Risk,
    labels: Mapping[str, Any],
    now: datetime,
    settings: AlertSettings,
) -> list[AlertTable]:
    """Carry the server's alerts that are not over, or resolved lately, through one cycle.

    Returns them with the one that began, if any.
    """
    if says_nothing(risk):
        return list(alerts)
    followed = list(alerts)
    if at_level(risk) and not any(alert.metric == risk.metric for alert in alerts):
        followed.append(_begin(session, risk, labels, now))
    for alert in followed:
        alert.seen_at = now
        if alert.state == "resolved":
            _count_resolved(alert, risk, now, settings)
            continue
        if alert.metric == risk.metric:
            _measure(alert, risk, now)
        if drives(alert, risk):
            _say(alert, risk, now)
            _count_at_level(alert, now, settings)
        elif is_held(alert, risk):
            _count_at_level(alert, now, settings)
        else:
            _count_below(alert, now)
    return followed


def _begin(session: Session, risk: Risk, labels: Mapping[str, Any], now: datetime) -> AlertTable:
    assert risk.metric is not None  # `at_level` says so
    alert = AlertTable(
        key=key_of(risk.server, risk.metric),
        server=risk.server,
        profile=risk.profile,
        metric=risk.metric,
        labels=dict(labels),
        level=risk.level,
        state="pending",
        score=risk.score,
        cycles_at_level=0,
        cycles_below=0,
        first_seen_at=now,
        updated_at=now,
        seen_at=now,
        reopened=0,
        dependent=False,
        message=describe(risk),
    )
    session.add(alert)
    write_down(alert, "pending", now, f"at {risk.level}")
    return alert


def _measure(alert: AlertTable, risk: Risk, now: datetime) -> None:
    alert.p_30m, alert.p_8h, alert.updated_at = risk.p_30m, risk.p_8h, now
    alert.score = risk.score if risk.score is not None else alert.score


def _say(alert: AlertTable, risk: Risk, now: datetime) -> None:
    if alert.level != risk.level:
        write_down(alert, "level", now, f"{alert.level} to {risk.level}")
    alert.level, alert.message = risk.level, describe(risk)
    if risk.open and alert.confirmed_at is None:
        alert.confirmed_at = now
        write_down(alert, "incident", now, "the incident itself was observed")
    if not risk.open and alert.state == "pending":
        alert.p_forecast = risk.p_8h


def _count_at_level(alert: AlertTable, now: datetime, settings: AlertSettings) -> None:
    alert.cycles_at_level += 1
    alert.cycles_below = 0
    if alert.state == "pending" and alert.cycles_at_level >= settings.open_after_cycles:
        transition(alert, "open", now, f"at {alert.level} for {alert.cycles_at_level} cycles")


def _count_resolved(alert: AlertTable, risk: Risk, now: datetime, settings: AlertSettings) -> None:
    alert.cycles_at_level = alert.cycles_at_level + 1 if drives(alert, risk) else 0
    if alert.cycles_at_level and alert.cycles_at_level >= settings.open_after_cycles:
        alert.cycles_below = 0
        transition(alert, "open", now, f"again, at {risk.level} for {alert.cycles_at_level} cycles")
        _measure(alert, risk, now)
        _say(alert, risk, now)


def _count_below(alert: AlertTable, now: datetime) -> None:
    alert.cycles_below += 1
    alert.cycles_at_level = 0
    if alert.state == "pending":
        transition(alert, "expired", now, "the risk passed before the alert opened")
