"""Whether the process lives and whether forecasts come from the model; no key is needed."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from serve_app.schemas import Health, Readiness
from serve_app.services import Needed, ask

READY_S = 3.0

router = APIRouter(tags=["health"])


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    """To the dashboard."""
    return RedirectResponse("/ui/")


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(needed: Needed, response: Response) -> Readiness:
    """200 only when the last cycle's forecasts came from the model and no cycle is overdue; else 503 and why."""
    try:
        reasons = await ask(needed.watcher.reasons.remote(), READY_S)
    except Exception as error:  # whatever keeps the watcher from answering, the service is not ready
        reasons = [f"the watcher does not answer ({type(error).__name__})"]
    response.status_code = 503 if reasons else 200
    return Readiness(ready=not reasons, reasons=reasons)
