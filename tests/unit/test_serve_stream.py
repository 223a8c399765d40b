"""A client of the stream that does not take its messages is let go, and holds nobody up."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from websockets.sync.client import connect

from fleetcast.clock import ClockSpec
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from serve_app.arguments import AppArgs
from serve_app.auth import KeyRing
from serve_app.handles import Handle
from serve_app.hub import WAITING, Hub
from serve_app.ingress import make_app
from serve_app.schemas import FleetSummary, LevelChange, StreamMessage
from serve_app.services import Services
from tests.waiting import wait_for

CHANGES = [LevelChange(server=f"web{number:05d}", level="P4", score=1.0) for number in range(8_000)]
MESSAGES = WAITING + 24


def message(number: int) -> StreamMessage:
    """About half a megabyte: the buffers of a connection do not hold many."""
    summary = FleetSummary(
        servers=0, by_level={}, by_state={}, by_source={}, by_profile={}, p_any_30m=None, p_any_8h=None
    )
    return StreamMessage(seq=number, type="cycle", origin=datetime.now(UTC), summary=summary, changes=CHANGES)


class Paced:
    """A watcher's messages, one as soon as the attentive client has the one before."""

    def __init__(self) -> None:
        self.taken = 0

    async def poll(self, after: int) -> list[StreamMessage]:
        while self.taken <= after or after + 1 >= MESSAGES:
            await asyncio.sleep(0.005)
        return [message(after + 1)]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str, Paced, FastAPI]]:
    database = f"sqlite:///{tmp_path / 'fleetcast.db'}"
    store = open_store(database)
    with store.session() as session:
        key = create_key(session, "reader", ["read"], datetime.now(UTC))
    clock = ClockSpec(origin=datetime.now(UTC), anchor=time.time(), speed=1.0)
    nobody: list[Handle] = [None] * 5  # type: ignore[list-item]  # the stream asks none of them
    args = AppArgs(bundle="", database=database, clock=clock)
    app = make_app(Services(args, STEPS_PER_DAY, clock.build(), store, KeyRing(store), *nobody))
    paced = Paced()
    app.state.hub = Hub(paced.poll)
    with serving(app) as address:
        yield address, key, paced, app
    store.close()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="websockets-sansio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}/v1/stream"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.mark.timeout(120)
def test_a_client_that_does_not_read_is_let_go_and_the_others_get_every_message(
    served: tuple[str, str, Paced, FastAPI],
) -> None:
    address, key, paced, app = served
    headers = {"Authorization": f"Bearer {key}"}
    options: dict[str, Any] = {
        "additional_headers": headers,
        "max_size": None,
        "max_queue": 1,
        "proxy": None,
        "compression": None,
    }
    with connect(address, **options) as attentive, connect(address, **options):
        wait_for(lambda: len(app.state.hub._clients) == 2, "both clients", 30.0)
        paced.taken = 1
        for number in range(MESSAGES):
            assert f'"seq":{number},' in attentive.recv(timeout=30)[:40]
            paced.taken = number + 2
        wait_for(lambda: len(app.state.hub._clients) == 1, "the end of the slow client", 30.0)
