"""More callers than one forecaster serves: replicas come and go, none of the answers is lost, refusals are fast."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fleetcast.settings import ServiceSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from tests.integration.served import bearer, wait_for
from tests.prometheus import free_port
from tests.unit.test_model import bundle_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

CALLERS = 24


@dataclass
class Loaded:
    """A service whose forecasters take few calls at a time, and an answer to all that its callers got."""

    address: str
    headers: dict[str, str]
    body: dict[str, Any]
    statuses: list[int] = field(default_factory=list)
    retry_after: list[str | None] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def call(self, client: httpx.Client) -> httpx.Response:
        """One forecast, asked for again as long as the service says that it is busy."""
        while True:
            found = client.post("/v1/forecast", json=self.body)
            self.statuses.append(found.status_code)
            if found.status_code != 429:
                return found
            self.retry_after.append(found.headers.get("retry-after"))
            time.sleep(0.2)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers=self.headers, timeout=60, trust_env=False)

    def press(self) -> None:
        """Call until it is over."""
        with self.client() as client:
            while not self.over.is_set():
                self.call(client)


@pytest.fixture(scope="module")
def loaded(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    from ray import serve

    from serve_app.app import build
    from serve_app.arguments import AppArgs

    folder = tmp_path_factory.mktemp("load")
    found = bundle_of()
    found.save(folder / "bundle")
    database, port = f"sqlite:///{folder / 'fleetcast.db'}", free_port()
    store = open_store(database)
    with store.session() as session:
        key = create_key(session, "reader", ["read"], datetime.now(UTC))
    store.close()
    service = ServiceSettings(
        port=port, ingress_replicas=1, forecaster_max_replicas=2, forecaster_target=2, forecaster_ongoing=4,
        forecaster_queue=6, forecaster_up_s=1, forecaster_down_s=3,
    )  # fmt: skip
    args = AppArgs(bundle=str(folder / "bundle"), database=database, service=service)
    serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 60})
    serve.run(build(args), name="fleetcast", route_prefix="/")
    moment = datetime(2026, 1, 5, 10, tzinfo=UTC)
    rows = [
        {
            "server": "x1",
            "timestamp": (moment - timedelta(minutes=5 * number)).isoformat(),
            **dict.fromkeys(found.manifest.targets, 0.4),
        }
        for number in range(30)
    ]
    yield Loaded(f"http://127.0.0.1:{port}", bearer(key), {"samples": rows})
    serve.shutdown()


def replicas() -> int:
    """Forecasters that run."""
    from ray import serve

    states = serve.status().applications["fleetcast"].deployments["forecaster"].replica_states
    return sum(count for state, count in states.items() if getattr(state, "value", state) == "RUNNING")


def test_replicas_rise_under_load_and_fall_after_it_and_no_call_is_lost(loaded: Loaded) -> None:
    assert replicas() == 1
    with ThreadPoolExecutor(CALLERS) as pool:
        pressing = [pool.submit(loaded.press) for _ in range(CALLERS)]
        try:
            wait_for(lambda: replicas() == 2, "a second forecaster")
        finally:
            loaded.over.set()
        for one in pressing:
            one.result(120)
    wait_for(lambda: replicas() == 1, "one forecaster again")
    assert set(loaded.statuses) == {200, 429}, "beyond the queue a refusal at once, never a time-out or a failure"
    assert {int(seconds or 0) > 0 for seconds in loaded.retry_after} == {True}
    with loaded.client() as client:
        assert loaded.call(client).status_code == 200
