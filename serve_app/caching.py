"""Answers that have not changed are not sent again: ETag and If-None-Match."""

from __future__ import annotations

import hashlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFIX = "/v1/"


class Revalidation:
    """ASGI middleware: an answer to GET below /v1 carries a digest of its body; 304 to whoever has that body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold the answer back until its body is whole, since the digest is in its head."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(_PREFIX):
            await self.app(scope, receive, send)
            return
        known = Headers(scope=scope).get("if-none-match", "")
        start: Message = {}
        parts: list[bytes] = []

        async def tagged(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await _send(start, b"".join(parts), known, send)

        await self.app(scope, receive, tagged)


async def _send(start: Message, body: bytes, known: str, send: Send) -> None:
    if start["status"] == 200:
        headers = MutableHeaders(raw=list(start["headers"]))
        tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
        headers["ETag"] = tag
        headers["Cache-Control"] = "private, no-cache"
        headers["Vary"] = "Accept, Authorization"
        if _has(known, tag):
            del headers["Content-Length"]
            start, body = {**start, "status": 304}, b""
        start = {**start, "headers": headers.raw}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _has(known: str, tag: str) -> bool:
    return known.strip() == "*" or tag in (one.strip().removeprefix("W/") for one in known.split(","))
