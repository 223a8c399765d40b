"""`/metrics` for Prometheus."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from serve_app.auth import needs
from serve_app.services import Needed, ask

BODY: dict[int | str, dict[str, Any]] = {
    200: {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
}

router = APIRouter(tags=["metrics"])


@router.get("/metrics", responses=BODY, response_class=Response)
async def metrics(http: Request, needed: Needed) -> Response:
    """Forecasts, risks and how the service does. Needs a key with the scope `read`, unless settings make it public."""
    if not needed.args.metrics.public:
        await needs("read")(http)
    text: bytes = await ask(needed.watcher.metrics.remote())
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)
