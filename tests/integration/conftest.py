"""One service with a real bundle on a simulated clock, and the demo feed that fills it: what several tests ask."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetcast.clock import ClockSpec
from fleetcast.dataset.reader import Dataset
from fleetcast.settings import AlertSettings, ServiceSettings
from fleetcast.simulate.live import LiveFleet
from fleetcast.store.engine import open_store
from fleetcast.store.keys import SCOPES, create_key
from serve_app.feed import Feed, FeedClient
from tests.integration.served import DEGRADED, HEALTHY, NEWCOMER, SPEED, STEP, Running, bearer, row_of, seen, wait_for


@pytest.fixture(scope="module")
def running(
    ray_session: None, tiny_bundle: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    from ray import serve

    from serve_app.app import build
    from serve_app.arguments import AppArgs

    folder = tmp_path_factory.mktemp("service")
    database = f"sqlite:///{folder / 'fleetcast.db'}"
    store = open_store(database)
    with store.session() as session:
        keys = {name: create_key(session, name, [name], datetime.now(UTC)) for name in SCOPES if name != "admin"}
        keys["all"] = create_key(session, "all", SCOPES, datetime.now(UTC))
    store.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    args = AppArgs(
        bundle=str(tiny_bundle),
        database=database,
        forecasts=str(folder / "forecasts"),
        dataset=str(tiny_dataset),
        clock=ClockSpec(origin=Dataset.open(tiny_dataset).manifest.end + STEP, anchor=time.time(), speed=SPEED),
        service=ServiceSettings(port=port, ingress_replicas=1, max_rows_per_request=20_000, max_body_bytes=20_000_000),
        alerts=AlertSettings(open_after_cycles=1),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 30})
    serve.run(build(args), name="fleetcast", route_prefix="/")
    address = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=address, headers=bearer(keys["all"]), timeout=40.0, trust_env=False) as client:
        yield Running(address, keys, client, args.clock)
    serve.shutdown()


@pytest.fixture(scope="module")
def before_samples(running: Running) -> dict[str, Any]:
    """What the service said before it had any sample."""
    return {
        "healthz": running.client.get("/healthz"),
        "readyz": running.client.get("/readyz"),
        "status": running.client.get("/v1/status"),
        "fleet": running.client.get("/v1/fleet"),
    }


@pytest.fixture(scope="module")
def filled(running: Running, before_samples: dict[str, Any], tiny_dataset: Path) -> Iterator[Running]:
    """The service while the demo feed continues the dataset, with a newcomer and a degraded server."""
    last = running.complete()
    newcomer = [row_of(NEWCOMER, last - number * STEP, cpu_utilization=0.2) for number in range(3)]
    degraded = [
        row_of(DEGRADED, last - number * STEP, memory_used=0.99 if number < 6 else 0.7, **HEALTHY)
        for number in range(288)
    ]
    assert running.post_samples(newcomer + degraded).status_code == 200
    stop = threading.Event()
    feeding = threading.Thread(target=_feed, args=(running, tiny_dataset, stop))
    feeding.start()
    try:
        wait_for(lambda: running.client.get("/readyz").status_code == 200, "a ready service")
        everyone = {NEWCOMER, DEGRADED, *Dataset.open(tiny_dataset).manifest.servers}
        wait_for(lambda: everyone <= seen(running), "a cycle over all servers")
        yield running
    finally:
        stop.set()
        feeding.join()


def _feed(running: Running, dataset: Path, stop: threading.Event) -> None:
    """Continue the simulated fleet, and keep the degraded server degraded, until `stop`."""
    live = LiveFleet.of_dataset(dataset)
    with httpx.Client(base_url=running.address, timeout=40.0, trust_env=False) as http:
        client = FeedClient(http, running.keys["all"], None, print)
        feed = Feed(live, Dataset.open(dataset).manifest.start, client, running.clock.build(), print)
        feed.backfill(170.0)
        while not stop.is_set():
            feed.step()
            row = row_of(DEGRADED, feed.newest_complete(), memory_used=0.99, **HEALTHY)
            client.call("POST", "/v1/samples", {"samples": [row]})
            stop.wait(feed.pause_s())
