"""Another model while the service runs: no answer is lost or mixed, a bad bundle is refused, back works the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetcast.clock import ClockSpec
from fleetcast.dataset.reader import Dataset
from fleetcast.model.bundle import Bundle
from fleetcast.model.registry import CURRENT, promote
from fleetcast.settings import ServiceSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from serve_app.preparation import preload
from serve_app.schedule import STEP
from tests.integration.served import bearer, wait_for
from tests.prometheus import free_port
from tests.unit.test_model import bundle_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@dataclass
class Served:
    """A service that follows the pointer of a models folder."""

    models: Path
    client: httpx.Client
    digests: dict[str, str]

    def status(self) -> Any:
        answer = self.client.get("/v1/status")
        return answer.json() if answer.status_code == 200 else None

    def serves(self, run: str) -> bool:
        """Whether a cycle was made by the model of this run."""
        page = self.client.get("/v1/fleet", params={"limit": 1}).json()
        return page["model"] is not None and page["model"]["digest"] == self.digests[run]


@pytest.fixture(scope="module")
def served(ray_session: None, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    from ray import serve

    from serve_app.app import build
    from serve_app.arguments import AppArgs

    folder = tmp_path_factory.mktemp("swap")
    models, digests = folder / "models", {}
    for number, run in enumerate(("first", "second")):
        found = bundle_of(seed=number)
        saved = Bundle(found.manifest.model_copy(update={"run": run}), found.weights).save(models / run / "bundle")
        digests[run] = saved.manifest.weights_sha256
    promote(models, "first")
    database, port = f"sqlite:///{folder / 'fleetcast.db'}", free_port()
    store = open_store(database)
    with store.session() as session:
        key = create_key(session, "reader", ["read"], datetime.now(UTC))
    dataset = Dataset.open(tiny_dataset)
    preload(store, dataset, timedelta(hours=96))
    store.close()
    args = AppArgs(
        bundle=str(models / CURRENT),
        database=database,
        clock=ClockSpec(origin=dataset.manifest.end + STEP, anchor=time.time(), speed=40),
        service=ServiceSettings(
            port=port, ingress_replicas=1, shard_servers=3, forecaster_min_replicas=2, forecaster_max_replicas=2
        ),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 30})
    serve.run(build(args), name="fleetcast", route_prefix="/")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer(key), timeout=40, trust_env=False) as client:
        found = Served(models, client, digests)
        wait_for(lambda: found.serves("first"), "a first cycle")
        yield found
    serve.shutdown()


@dataclass
class Caller(threading.Thread):
    """Asks for forecasts of its own samples and for a stored one, without a pause, and remembers what came."""

    served: Served
    body: dict[str, Any]
    answers: list[tuple[int, str]] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        with httpx.Client(
            base_url=self.served.client.base_url, headers=self.served.client.headers, timeout=40, trust_env=False
        ) as client:
            while not self.over.is_set():
                found = client.post("/v1/forecast", json=self.body)
                self.answers.append((found.status_code, found.json().get("model", {}).get("digest", found.text)))
                page = client.get("/v1/fleet").json()
                self.sources |= {item["source"] for item in page["items"]}


def point_at(models: Path, target: Path) -> None:
    """Move the pointer without the check of `promote`."""
    (models / "moved").symlink_to(target)
    os.replace(models / "moved", models / CURRENT)


def test_promoting_and_rolling_back_lose_no_answer_and_a_damaged_bundle_is_refused(served: Served) -> None:
    moment = datetime(2026, 1, 5, 10, tzinfo=UTC)
    targets = bundle_of().manifest.targets
    rows = [
        {"server": "x1", "timestamp": (moment - number * STEP).isoformat(), **dict.fromkeys(targets, 0.4)}
        for number in range(30)
    ]
    caller = Caller(served, {"samples": rows})
    caller.start()
    try:
        wait_for(lambda: len(caller.answers) > 3, "answers")
        promote(served.models, "second")
        wait_for(lambda: served.serves("second"), "a cycle of the promoted model")

        weights = served.models / "first" / "bundle" / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        point_at(served.models, Path("first") / "bundle")
        refusal = wait_for(lambda: (served.status() or {}).get("model_refused"), "the refusal")
        assert "damaged" in refusal
        number = served.status()["cycle"]["number"]
        wait_for(lambda: served.status()["cycle"]["number"] >= number + 2, "two more cycles")
        assert served.serves("second")

        weights.write_bytes(whole)
        promote(served.models, "second")
        wait_for(lambda: served.status()["model_refused"] is None, "the end of the refusal")
        promote(served.models, "first")
        wait_for(lambda: served.serves("first"), "a cycle of the model before")
    finally:
        caller.over.set()
        caller.join(60)
    assert {status for status, _ in caller.answers} == {200}
    named = [digest for _, digest in caller.answers]
    assert set(named) == set(served.digests.values())
    assert "none" not in caller.sources
    assert served.status()["cycle"]["error"] is None
