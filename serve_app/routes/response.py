"""Alerts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from fleetcast.alerting.views import AlertState, AlertView, RoutingRow
from serve_app.schemas import AlertsAnswer, ErrorAnswer, RoutingAnswer
from serve_app.services import Needed, Operator, Reader, ask

Limit = Annotated[int, Query(ge=1, le=1000)]
Id = Annotated[int, Path(ge=1, le=2**62)]

router = APIRouter(prefix="/v1", responses={409: {"model": ErrorAnswer}})


@router.get("/alerts", tags=["alerts"])
async def alerts(caller: Reader, needed: Needed, state: AlertState | None = None, limit: Limit = 200) -> AlertsAnswer:
    """The newest alerts."""
    items: list[AlertView] = await ask(needed.alerts.newest.remote(state, limit))
    return AlertsAnswer(items=items, shadow=needed.args.alerts.shadow)


@router.get("/alerts/routing", tags=["alerts"])
async def routing(caller: Reader, needed: Needed) -> RoutingAnswer:
    """Who is told what, by level, and the escalation."""
    items: list[RoutingRow] = await ask(needed.alerts.routing.remote())
    return RoutingAnswer(items=items)


@router.post("/alerts/{alert_id}/acknowledge", tags=["alerts"])
async def acknowledge(alert_id: Id, caller: Operator, needed: Needed) -> AlertView:
    """Take care of an alert: it is not escalated further."""
    found: AlertView = await ask(needed.alerts.acknowledge.remote(alert_id, caller.name))
    return found


@router.post("/alerts/{alert_id}/resolve", tags=["alerts"])
async def resolve(alert_id: Id, caller: Operator, needed: Needed) -> AlertView:
    """Say that an alert is over."""
    found: AlertView = await ask(needed.alerts.resolve.remote(alert_id, caller.name))
    return found
