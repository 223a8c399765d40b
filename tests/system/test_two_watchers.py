"""Two watchers on one database: one runs cycles, the other follows when it is killed or stopped, nothing is doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from fleetcast.store.engine import Store, open_store
from fleetcast.store.keys import create_key
from fleetcast.store.leases import see_lease
from fleetcast.store.tables import ForecastCycleTable
from serve_app.processes import descendants, end
from tests import waiting
from tests.prometheus import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]
PATIENCE_S = 150.0
wait_for = partial(waiting.wait_for, patience_s=PATIENCE_S)

SERVICE = """
import sys, time
from pathlib import Path
from fleetcast.clock import ClockSpec
from fleetcast.dataset.reader import Dataset
from fleetcast.runtime import connect, prepare_environment
from fleetcast.settings import RaySettings, ServiceSettings
settings = RaySettings(num_cpus=2, auth_mode="disabled")
prepare_environment(settings)
connect(settings, log_to_driver=False)
from ray import serve
from serve_app.app import _single, build, topology
from serve_app.arguments import AppArgs
from serve_app.schedule import STEP
from serve_app.watcher import Watcher
bundle, data, database, forecasts, port = sys.argv[1:6]
clock = ClockSpec(origin=Dataset.open(data).manifest.end + STEP, anchor=time.time(), speed=50)
service = ServiceSettings(port=int(port), ingress_replicas=1, forecaster_min_replicas=2, forecaster_max_replicas=2)
args = AppArgs(bundle=bundle, database=database, forecasts=forecasts, dataset=data, clock=clock, service=service)
serve.start(http_options={"host": "127.0.0.1", "port": int(port), "request_timeout_s": 20})
serve.run(build(args), name="fleetcast", route_prefix="/")
handles = [serve.get_deployment_handle(n, "fleetcast") for n in ("history", "forecaster", "alerts", "remediation")]
serve.run(_single("watcher", Watcher).bind(args, *handles, topology(data)), name="second", route_prefix=None)
print("ready", flush=True)
time.sleep(3600)
"""


@dataclass
class Running:
    """The service with a second watcher."""

    pid: int
    store: Store
    client: httpx.Client
    forecasts: Path

    def replicas(self, name: str) -> list[int]:
        marks = f"ServeReplica:{name}".encode()
        return [pid for pid in descendants(self.pid) if marks in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def holder(self) -> int:
        """Process id of the watcher that holds the lease."""
        with self.store.reading() as session:
            seen = see_lease(session, "watcher")
        assert seen is not None
        return int(seen.lease.holder.rsplit(":", 2)[1])

    def cycles(self) -> dict[int, int]:
        """The fencing number under which each origin was stored."""
        with self.store.reading() as session:
            return dict(session.execute(select(ForecastCycleTable.origin, ForecastCycleTable.fence)).all())

    def wait_for_cycles(self, fence: int) -> None:
        def found() -> bool:
            return sum(one == fence for one in self.cycles().values()) >= 2

        wait_for(found, f"two cycles under the number {fence}")


@pytest.fixture(scope="module")
def running(tiny_bundle: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from datetime import timedelta

    from fleetcast.dataset.reader import Dataset
    from serve_app.preparation import preload

    tmp_path = tmp_path_factory.mktemp("watchers")
    database, port = f"sqlite:///{tmp_path / 'fleetcast.db'}", free_port()
    store = open_store(database)
    with store.session() as session:
        key = create_key(session, "reader", ["read"], datetime.now(UTC))
    preload(store, Dataset.open(tiny_dataset), timedelta(hours=96))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETCAST_", "RAY_"))}
    command = [sys.executable, "-c", SERVICE, tiny_bundle, tiny_dataset, database, tmp_path / "forecasts", str(port)]
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert any(line.strip() == "ready" for line in process.stdout), "the service did not start"
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30, trust_env=False) as client:
            yield Running(process.pid, store, client, tmp_path / "forecasts")
    finally:
        below = descendants(process.pid)
        for pid in {process.pid, *below}:
            os.kill(pid, signal.SIGKILL)
        process.wait(30)
        end(below, 10.0)


def test_the_shards_of_a_killed_forecaster_are_forecast_elsewhere(running: Running) -> None:
    running.wait_for_cycles(1)
    victims = running.replicas("fleetcast:forecaster")
    assert len(victims) == 2
    os.kill(victims[0], signal.SIGKILL)
    killed = running.client.get("/v1/status").json()["cycle"]

    def later() -> Any:
        answer = running.client.get("/v1/status")
        cycle = answer.json()["cycle"] if answer.status_code == 200 else None
        if cycle and cycle["number"] >= killed["number"] + 2:
            return cycle
        return None

    cycle = wait_for(later, "two more cycles")
    assert (cycle["none"], cycle["error"]) == (0, None)
    assert cycle["model"] + cycle["fallback"] == cycle["servers"]


def test_the_killed_and_the_stopped_holder_are_followed_and_the_stopped_one_writes_nothing_more(
    running: Running,
) -> None:
    running.wait_for_cycles(1)
    both = {*running.replicas("fleetcast:watcher"), *running.replicas("second:watcher")}
    first = running.holder()
    assert len(both) == 2
    assert first in both
    os.kill(first, signal.SIGKILL)
    running.wait_for_cycles(2)
    second = running.holder()
    assert second != first

    os.kill(second, signal.SIGSTOP)  # alive, but it does not beat
    try:
        wait_for(lambda: running.holder() != second, "another holder")
        running.wait_for_cycles(3)
    finally:
        with suppress(ProcessLookupError):  # a slow machine gives Serve the time to end it: it did not answer
            os.kill(second, signal.SIGCONT)
    running.wait_for_cycles(3)
    time.sleep(5.0)
    fences = [fence for _, fence in sorted(running.cycles().items())]
    assert fences == sorted(fences), "no origin was stored under an older number after a newer one"
    with running.store.reading() as session:
        named = set(session.scalars(select(ForecastCycleTable.file)))
    assert named - {file.name for file in running.forecasts.iterdir()} == set(), "every file that counts is there"
