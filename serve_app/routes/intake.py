"""Writing: samples and planned maintenance."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from fleetcast.errors import UsageError
from fleetcast.store.maintenance import MaintenanceWindow
from serve_app.commits import Stored, no_room
from serve_app.intake import Checked, check_rows, rows_of
from serve_app.schemas import MaintenanceAnswer, MaintenanceRequest, SamplesAnswer, SamplesRequest
from serve_app.services import Needed, Operator, TooLargeError, Writer, ask

STORE_S = 25.0

router = APIRouter(prefix="/v1", tags=["intake"])


@router.post("/samples", responses={207: {"model": SamplesAnswer}})
async def samples(request: SamplesRequest, caller: Writer, needed: Needed, response: Response) -> SamplesAnswer:
    """Store samples: 200 when all were good, 207 when some were refused, with the reasons.

    What is acknowledged is durable. Idempotent on server and time; a later sample replaces the earlier one.
    """
    service = needed.args.service
    if len(request.samples) > service.max_rows_per_request:
        raise TooLargeError(
            f"{len(request.samples)} rows, at most {service.max_rows_per_request} a request: send parts"
        )
    retention = timedelta(hours=service.retention_hours)
    checked: Checked = await run_in_threadpool(check_rows, request.samples, needed.clock.now(), retention)
    stored = Stored(0, 0)
    if checked.table.num_rows:
        stored = await ask(needed.history.add.remote(checked.table), STORE_S)
    quarantined = checked.quarantined
    if stored.refused:
        quarantined = rows_of(stored.refused, request.samples, quarantined, no_room(service.max_servers))
    response.status_code = 207 if quarantined else 200
    return SamplesAnswer(accepted=stored.inserted + stored.replaced, replaced=stored.replaced, quarantined=quarantined)


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
