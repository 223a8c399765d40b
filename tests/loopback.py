"""Receivers of notifications on loopback: real servers that answer as their documentation says."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    status: int = 202
    headers: dict[str, str] = {}  # noqa: RUF012 (nobody changes it)
    body: bytes = b'{"status": "success"}'


@dataclass
class Loopback:
    """Answers what stands in `script`, first things first, then what `usually` says; keeps all requests.

    An entry may be a function of the request; one that returns None takes the request and never answers.
    """

    port: int
    requests: list[Request] = field(default_factory=list)
    script: deque[Answer | Callable[[Request], Answer | None]] = field(default_factory=deque)
    usually: Callable[[Request], Answer | None] = lambda request: Answer()
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, request: Request) -> Answer | None:
        self.requests.append(request)
        entry = self.script.popleft() if self.script else self.usually
        return entry if isinstance(entry, Answer) else entry(request)


@contextmanager
def loopback(port: int = 0, certificate: tuple[Path, Path] | None = None) -> Iterator[Loopback]:
    """A server on a free or the given port, with TLS where there is a certificate (and its key)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = found.take(Request(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            if answer is None:
                found.ended.wait()
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Loopback(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        found.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
