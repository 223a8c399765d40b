"""`/v1/stream`: a message a cycle over a WebSocket."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketState

from fleetcast.errors import AuthenticationError, PermissionDeniedError
from serve_app.auth import bearer_key
from serve_app.hub import Client, Hub
from serve_app.rates import TooManyRequestsError
from serve_app.schemas import StreamMessage
from serve_app.services import Services, ask

logger = logging.getLogger("ray.serve")

FIRST_MESSAGE_S = 10.0
CLOSE_S = 5.0  # a client that reads nothing does not see that it is closed either
POLICY_VIOLATION, TRY_AGAIN = 1008, 1013

router = APIRouter()


@router.websocket("/v1/stream")
async def stream(socket: WebSocket, after: Annotated[int | None, Query(ge=0)] = None) -> None:
    """Fleet updates. The key comes in the `Authorization` header or in a first message `{"key": "fc_..."}`.

    Who was cut off asks with `after` for what came after the `seq` of its last message; where that is kept no more it
    gets one message with all servers (`previous` is null). Closed with 1008 for a missing or wrong key, or one without
    the scope `read`; with 1013 when the client does not take its messages fast enough, its key asks too often or the
    watcher does not answer.
    """
    await socket.accept()
    try:
        await _authenticate(socket)
    except (AuthenticationError, PermissionDeniedError) as error:
        await socket.close(POLICY_VIOLATION, str(error)[:120])
        return
    except TooManyRequestsError as error:
        await socket.close(TRY_AGAIN, str(error)[:120])
        return
    except WebSocketDisconnect:
        return
    hub: Hub = socket.app.state.hub
    with hub.client() as client:  # first of all, so that nothing falls between what was missed and what comes
        try:
            missed = await _missed(socket, after)
        except Exception as error:
            logger.warning("no missed messages for a client of the stream: %s", error)
            await socket.close(TRY_AGAIN, "the watcher does not answer: connect again")
            return
        await _send_until_gone(socket, client, missed, after)


async def _missed(socket: WebSocket, after: int | None) -> list[StreamMessage]:
    if after is None:
        return []
    services: Services = socket.app.state.services
    missed: list[StreamMessage] = await ask(services.watcher.since.remote(after))
    return missed


async def _authenticate(socket: WebSocket) -> None:
    services: Services = socket.app.state.services
    key = bearer_key(socket) if "authorization" in socket.headers else await _first_message(socket)
    principal = await services.keys.principal(key)
    services.rates.take(principal.name)
    principal.require("read")


async def _first_message(socket: WebSocket) -> str:
    try:
        text = await asyncio.wait_for(socket.receive_text(), FIRST_MESSAGE_S)
        key = json.loads(text)["key"]
    except (TimeoutError, ValueError, KeyError, TypeError):
        key = None
    if not isinstance(key, str):
        raise AuthenticationError('no API key: send {"key": "fc_..."} first')
    return key


async def _send_until_gone(socket: WebSocket, client: Client, missed: list[StreamMessage], after: int | None) -> None:
    """Send messages until the client closes or falls behind."""
    sending = asyncio.create_task(_send(socket, client, missed, after))
    closing = asyncio.create_task(_closed(socket))
    slow = asyncio.create_task(client.behind.wait())
    tasks = {sending, closing, slow}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if client.behind.is_set() and socket.application_state is WebSocketState.CONNECTED:
        with suppress(TimeoutError):
            await asyncio.wait_for(socket.close(TRY_AGAIN, "too slow: connect again"), CLOSE_S)


async def _send(socket: WebSocket, client: Client, missed: list[StreamMessage], after: int | None) -> None:
    """What was missed, then what comes; a message that the client has already is not sent again."""
    known = {after}
    for message in missed:
        await socket.send_text(message.model_dump_json())
        known.add(message.seq)
    while True:
        message = await client.queue.get()
        if message.seq not in known:
            known = set()
            await socket.send_text(message.model_dump_json())


async def _closed(socket: WebSocket) -> None:
    """Return when the client has closed; what it sends meanwhile is ignored."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
