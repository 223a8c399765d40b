"""Writing: samples and planned maintenance."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from fleetcast.errors import UsageError
from fleetcast.store.maintenance import MaintenanceWindow
from fleetcast.store.quarantine import Refused, add_refused, count_refused, list_refused
from serve_app.bodies import ARROW, check_arrow, check_json
from serve_app.commits import Stored, no_room
from serve_app.intake import Checked
from serve_app.schemas import (
    ErrorAnswer,
    MaintenanceAnswer,
    MaintenanceRequest,
    QuarantinedSample,
    QuarantinedValue,
    QuarantinePage,
    SamplesAnswer,
    SamplesRequest,
)
from serve_app.services import Needed, Operator, Reader, Services, Writer, ask

STORE_S = 25.0
EXAMPLE = {"samples": [{"server": "ppweb0001", "timestamp": "2026-01-12T09:55:00Z", "cpu_utilization": 0.42}]}

router = APIRouter(prefix="/v1", tags=["intake"])


BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": SamplesRequest.model_json_schema(), "example": EXAMPLE},
            ARROW: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post("/samples", responses={207: {"model": SamplesAnswer}, 507: {"model": ErrorAnswer}}, openapi_extra=BODY)
async def samples(http: Request, caller: Writer, needed: Needed, response: Response) -> SamplesAnswer:
    """Store samples: 200 when all were good, 207 when some were refused, with the reasons.

    JSON rows, or an Arrow IPC stream with the same columns. What is acknowledged is durable. Idempotent on server and
    time; a later sample replaces the earlier one. Refused rows are kept in the quarantine.
    """
    service = needed.args.service
    retention = timedelta(hours=service.retention_hours)
    body, most = await http.body(), service.max_rows_per_request
    checked = await run_in_threadpool(read_samples, http, body, most, needed.clock.now(), retention)
    stored = Stored(0, 0)
    if checked.table.num_rows:
        stored = await ask(needed.history.add.remote(checked.table), STORE_S)
    quarantined = checked.quarantined
    if stored.refused:
        quarantined = checked.without(stored.refused, no_room(service.max_servers))
    if quarantined:
        await run_in_threadpool(_keep, needed, caller.name, quarantined)
    response.status_code = 207 if quarantined else 200
    return SamplesAnswer(accepted=stored.inserted + stored.replaced, replaced=stored.replaced, quarantined=quarantined)


@router.get("/quarantine")
async def quarantine(
    caller: Reader,
    needed: Needed,
    server: Annotated[str | None, Query(max_length=253)] = None,
    before: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
) -> QuarantinePage:
    """What was refused, newest first; the next page is asked for with `before` = `next`."""
    return await run_in_threadpool(_page, needed, server, before, limit)


def read_samples(http: Request, body: bytes, most: int, now: datetime, retention: timedelta) -> Checked:
    """Check a body of samples in either form. Raises `UsageError`, `ContractError` and `TooLargeError`."""
    return (check_arrow if _is_arrow(http) else check_json)(body, most, now, retention)


def _is_arrow(http: Request) -> bool:
    return http.headers.get("content-type", "").partition(";")[0].strip().lower() == ARROW


def _keep(needed: Services, sender: str, quarantined: list[QuarantinedValue]) -> None:
    refused = [Refused(**value.model_dump()) for value in quarantined]
    with needed.store.session() as session:
        add_refused(session, needed.clock.now(), sender, refused, needed.args.service.quarantine_rows)


def _page(needed: Services, server: str | None, before: int | None, limit: int) -> QuarantinePage:
    with needed.store.reading() as session:
        found = list_refused(session, server, before, limit)
        total = count_refused(session)
    items = [
        QuarantinedSample(number=one.number, at=one.at, sender=one.sender, **one.refused._asdict()) for one in found
    ]
    return QuarantinePage(total=total, items=items, next=found[-1].number if len(found) == limit else None)


@router.post("/maintenance")
async def maintenance(request: MaintenanceRequest, caller: Operator, needed: Needed) -> MaintenanceAnswer:
    """Announce planned maintenance: alerts of the server are held back and its forecasts know of it."""
    if request.start.tzinfo is None or request.end.tzinfo is None:
        raise UsageError("start and end need a time zone, for example 2026-01-05T12:00:00Z")
    if request.end <= request.start:
        raise UsageError("maintenance must end after its start")
    window = MaintenanceWindow(request.server, request.start, request.end)
    windows: int = await ask(needed.history.plan.remote(window, caller.name))
    return MaintenanceAnswer(windows=windows)
