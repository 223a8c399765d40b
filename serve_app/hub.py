"""One subscription to the watcher for all WebSocket clients of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from serve_app.schemas import StreamMessage

logger = logging.getLogger("ray.serve")

WAITING = 16
PAUSE_S = 1.0

Poll = Callable[[int], Awaitable[list[StreamMessage]]]


class Client:
    """The messages that wait for one client; `behind` is set when it was too slow to take them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[StreamMessage] = asyncio.Queue(WAITING)
        self.behind = asyncio.Event()

    def offer(self, message: StreamMessage) -> None:
        """Queue a message; a client whose queue is full is behind for good."""
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            self.behind.set()


class Hub:
    """Polls the watcher while there are clients and gives every message to each of them.

    A client begins with the newest message: the watcher keeps more of them than a client's queue holds.
    """

    def __init__(self, poll: Poll) -> None:
        self._poll = poll
        self._clients: set[Client] = set()
        self._task: asyncio.Task[None] | None = None
        self._newest: StreamMessage | None = None

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client that gets the messages while the context is open; first the newest one there is."""
        client = Client()
        self._clients.add(client)
        if self._task is None or self._task.done():
            self._newest = None  # of the last run; the new one asks for what is newest now
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._newest is not None:
            client.offer(self._newest)
        try:
            yield client
        finally:
            self._clients.discard(client)

    async def _run(self) -> None:
        while self._clients:
            try:
                messages = await self._poll(-1 if self._newest is None else self._newest.seq)
            except Exception as error:
                logger.warning("no fleet updates from the watcher (%s); trying again", type(error).__name__)
                await asyncio.sleep(PAUSE_S)
                continue
            if self._newest is None or len(messages) >= WAITING:
                messages = messages[-1:]
            for message in messages:
                self._newest = message
                for client in list(self._clients):
                    client.offer(message)
