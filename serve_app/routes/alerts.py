"""Alerts, who is told of them, and silences."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from fleetcast.alerting.views import AlertState, AlertView, RoutingRow, SilenceView
from serve_app.schemas import AlertsAnswer, ErrorAnswer, RoutingAnswer, SilenceRequest, SilencesAnswer
from serve_app.services import Needed, Operator, Reader, ask

Limit = Annotated[int, Query(ge=1, le=1000)]
Id = Annotated[int, Path(ge=1, le=2**62)]

router = APIRouter(prefix="/v1", tags=["alerts"], responses={409: {"model": ErrorAnswer}})


@router.get("/alerts")
async def alerts(caller: Reader, needed: Needed, state: AlertState | None = None, limit: Limit = 200) -> AlertsAnswer:
    """The newest alerts."""
    items: list[AlertView] = await ask(needed.alerts.newest.remote(state, limit))
    return AlertsAnswer(items=items, shadow=needed.shadow)


@router.get("/alerts/routing")
async def routing(caller: Reader, needed: Needed) -> RoutingAnswer:
    """Who is told what, by level, and the escalation."""
    items: list[RoutingRow] = await ask(needed.alerts.routing.remote())
    return RoutingAnswer(items=items)


@router.get("/alerts/{alert_id}")
async def one(alert_id: Id, caller: Reader, needed: Needed) -> AlertView:
    """One alert with its timeline, ladder and messages."""
    found: AlertView = await ask(needed.alerts.one.remote(alert_id))
    return found


@router.post("/alerts/{alert_id}/acknowledge")
async def acknowledge(alert_id: Id, caller: Operator, needed: Needed) -> AlertView:
    """Take care of an alert's incident: it is not escalated further."""
    found: AlertView = await ask(needed.alerts.acknowledge.remote(alert_id, caller.name))
    return found


@router.post("/alerts/{alert_id}/resolve")
async def resolve(alert_id: Id, caller: Operator, needed: Needed) -> AlertView:
    """Say that an alert's incident is over."""
    found: AlertView = await ask(needed.alerts.resolve.remote(alert_id, caller.name))
    return found


@router.get("/silences")
async def silences(caller: Reader, needed: Needed, ended: bool = False) -> SilencesAnswer:
    """Silences in force or to come; with `ended` also those that are over."""
    items: list[SilenceView] = await ask(needed.alerts.silences.remote(ended))
    return SilencesAnswer(items=items)


@router.post("/silences")
async def silence(request: SilenceRequest, caller: Operator, needed: Needed) -> SilenceView:
    """Send nothing of the alerts that fit all matchers, until a time."""
    end = request.ends_at or needed.clock.now() + request.span
    found: SilenceView = await ask(
        needed.alerts.silence.remote(request.matchers, request.starts_at, end, caller.name, request.comment)
    )
    return found


@router.post("/silences/{silence_id}/end")
async def end_silence(silence_id: Id, caller: Operator, needed: Needed) -> SilenceView:
    """End a silence now."""
    found: SilenceView = await ask(needed.alerts.end_silence.remote(silence_id, caller.name))
    return found
