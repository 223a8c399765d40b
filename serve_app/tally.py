"""What an ingress counts, and how the watcher comes to know: Prometheus asks one of several ingresses at a time."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("ray.serve")

EVERY_S = 5.0
SILENT_S = 3 * EVERY_S

Key = tuple[str, str]
REQUESTS, CALLS, BATCHES = "requests", "calls", "batches"
WINDOWS, SHARDS = "windows", "shards"


@dataclass(frozen=True)
class Report:
    """What a process counted since its last report, and how much of each kind is under way in it."""

    process: str
    counts: Mapping[Key, float]
    ongoing: Mapping[str, int]


class Tally:
    """Counts of this process, told every few seconds; what could not be told is told the next time."""

    def __init__(self, tell: Callable[[Report], Awaitable[None]]) -> None:
        self._tell, self._process = tell, uuid.uuid4().hex
        self._counts: Counter[Key] = Counter()
        self._ongoing: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None

    def count(self, name: str, label: str, by: float = 1.0) -> None:
        """Count something; the first call begins the reports."""
        self._counts[name, label] += by  # type: ignore[assignment]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    @contextmanager
    def under_way(self, kind: str, count: int = 1) -> Iterator[None]:
        """So many things are under way while the context is open."""
        self._ongoing[kind] += count
        try:
            yield
        finally:
            self._ongoing[kind] -= count

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            told, self._counts = self._counts, Counter()
            try:
                await asyncio.wait_for(self._tell(Report(self._process, dict(told), dict(self._ongoing))), SILENT_S)
            except Exception as error:
                logger.info("counts are told later, the watcher does not answer: %s", type(error).__name__)
                self._counts.update(told)


class Ongoing:
    """Sums what the processes said of themselves last; who has been silent for 15 s has nothing under way."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, Mapping[str, int]]] = {}

    def add(self, report: Report) -> None:
        """Remember a report."""
        self._last[report.process] = (time.monotonic(), report.ongoing)

    def total(self, kind: str) -> int:
        """How much of a kind is under way."""
        since = time.monotonic() - SILENT_S
        self._last = {process: last for process, last in self._last.items() if last[0] >= since}
        return sum(ongoing.get(kind, 0) for _, ongoing in self._last.values())


class Counting:
    """ASGI middleware: counts requests by the status of their answer."""

    def __init__(self, app: ASGIApp, tally: Tally) -> None:
        self.app, self._tally = app, tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note its status."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._tally.count(REQUESTS, str(message["status"]))
            await send(message)

        with self._tally.under_way(REQUESTS):
            await self.app(scope, receive, noted)
