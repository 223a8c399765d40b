"""An API that remediation acts on: a real HTTP server on loopback that takes an `Idempotency-Key` once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fleetcast.settings import HttpTarget


@dataclass
class Target:
    """What it was asked for: `effects` are requests that changed something, `seen` all but look-ups.

    `answers` are statuses by "METHOD /path", one for each time it is asked, the last for all further times; `held`
    keeps requests of that kind waiting until it is set, after their effect.
    """

    url: str = ""
    keyed: bool = True
    seen: list[str] = field(default_factory=list)
    effects: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    drops: set[str] = field(default_factory=set)
    held: threading.Event | None = None
    arrived: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settings(self, **fields: Any) -> HttpTarget:
        """The settings of this target, which allow everything below /servers, /backends, /nodes and /pages."""
        allow = [f"{m} {p}" for m in ("GET", "POST", "PUT", "DELETE") for p in _PATHS]
        return HttpTarget(**{"url": self.url, "allow": allow, "timeout_s": 5.0, "honours_keys": True, **fields})


_PATHS = ("/servers/*/pool", "/servers/*/reads", "/servers/*/lock-holders/longest", "/backends/*/state", "/pages")


@contextmanager
def running() -> Iterator[Target]:
    """The server, until the block ends."""
    target = Target()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(target))
    server.daemon_threads = True
    target.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield target
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(target: Target) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            what, key = f"{self.command} {self.path}", self.headers.get("Idempotency-Key", "")
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            if self.path.startswith("/actions/"):
                known = self.path.removeprefix("/actions/") in {key for key, _ in target.effects}
                self._send(200 if known else 404)
                return
            with target.lock:
                target.seen.append(what)
                target.headers.append(dict(self.headers))
                target.bodies.append(body)
                planned = target.answers.get(what, [200])
                status = planned.pop(0) if len(planned) > 1 else planned[0]
                known = target.keyed and key in {one for one, _ in target.effects}
                if status < 300 and not known and self.command != "GET":
                    target.effects.append((key, what))
            target.arrived.set()
            if target.held is not None:
                target.held.wait(30)
            if what in target.drops:
                target.drops.discard(what)
                self.close_connection = True
                return
            self._send(status)

        def _send(self, status: int) -> None:
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", f"{target.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    return Handler
