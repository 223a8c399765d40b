"""Prometheus' remote write, protocol 1.0."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from fleetcast.errors import ContractError
from fleetcast.sources.prometheus.write import decode_write
from serve_app.services import Needed, Writer, ask

STORE_S = 25.0
BODY = {"requestBody": {"content": {"application/x-protobuf": {"schema": {"type": "string", "format": "binary"}}}}}

router = APIRouter(prefix="/api/v1", tags=["intake"])


@router.post("/write", status_code=204, openapi_extra=BODY)
async def write(http: Request, caller: Writer, needed: Needed) -> Response:
    """Take node_exporter's samples in; they are durable when this answers and become metrics when their step is over.

    Prometheus tries again after 5xx and gives up after 4xx.
    """
    if "io.prometheus.write.v2" in http.headers.get("content-type", ""):
        raise ContractError("remote write 2.0 is not understood: leave protobuf_message at prometheus.WriteRequest")
    service = needed.args.service
    raw = await run_in_threadpool(decode_write, await http.body(), service.max_body_bytes, service.max_rows_per_request)
    if raw.num_rows:
        await ask(needed.history.receive.remote(raw), STORE_S)
    return Response(status_code=204)
