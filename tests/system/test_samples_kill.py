"""Samples flow while processes are killed or the disk is full: what was acknowledged is there, once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from fleetcast.store.samples import read_samples
from serve_app.processes import descendants, end
from tests import postgres
from tests.prometheus import free_port
from tests.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 12, 10, 2, tzinfo=UTC)
NEWEST = int(NOW.timestamp()) // 300 * 300 - 300
PATIENCE_S = 90.0

SERVICE = """
import sys, time
from datetime import datetime
from fleetcast.clock import ClockSpec
from fleetcast.runtime import connect, prepare_environment
from fleetcast.settings import RaySettings, ServiceSettings
settings = RaySettings(num_cpus=2, auth_mode="disabled")
prepare_environment(settings)
connect(settings, log_to_driver=False)
from ray import serve
from serve_app.app import build_intake
from serve_app.arguments import AppArgs
clock = ClockSpec(origin=datetime.fromisoformat(sys.argv[3]), anchor=time.time(), speed=1e-6)
port = int(sys.argv[2])
args = AppArgs(bundle="", database=sys.argv[1], clock=clock, service=ServiceSettings(port=port, ingress_replicas=1))
serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 20})
serve.run(build_intake(args, 300, "UTC"), name="samples", route_prefix="/")
print("ready", flush=True)
time.sleep(3600)
"""


@dataclass
class Service:
    """The API with its history, as processes of its own."""

    database: str
    key: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETCAST_", "RAY_"))}
        command = [sys.executable, "-c", SERVICE, self.database, str(self.port), NOW.isoformat()]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert any(line.strip() == "ready" for line in self.process.stdout), "the service did not start"

    def processes(self) -> set[int]:
        assert self.process is not None
        return descendants(self.process.pid)

    def replica(self, deployment: str) -> int:
        for pid in self.processes():
            if f"ServeReplica:samples:{deployment}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError(f"there is no {deployment}")

    def kill(self) -> None:
        """SIGKILL for every process at once."""
        assert self.process is not None
        below = self.processes()
        for pid in {self.process.pid, *below}:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(30)
        end(below, 10.0)


@contextmanager
def service_in(folder: Path) -> Iterator[Service]:
    with service_on(f"sqlite:///{folder / 'fleetcast.db'}") as service:
        yield service


@contextmanager
def service_on(database: str) -> Iterator[Service]:
    store = open_store(database)
    with store.session() as session:
        key = create_key(session, "writer", ["read", "write"], datetime.now(UTC))
    store.close()
    service = Service(database, key)
    service.start()
    try:
        yield service
    finally:
        service.kill()


class Writer(threading.Thread):
    """Posts a row a request, each of a server of its own, and remembers what was acknowledged."""

    def __init__(self, service: Service, width: int = 1) -> None:
        super().__init__()
        self._service, self._width = service, width
        self.acknowledged: list[str] = []
        self.refusals: list[int] = []
        self._over = threading.Event()

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self._service.key}"}
        number = 0
        with httpx.Client(base_url=f"http://127.0.0.1:{self._service.port}", timeout=20.0, trust_env=False) as client:
            while not self._over.is_set():
                name = f"web{number:06d}"
                stamps = [NEWEST - 300 * step for step in range(self._width)]
                rows = [{"server": name, "timestamp": stamp, "cpu_utilization": number % 97 / 97} for stamp in stamps]
                try:
                    answer = client.post("/v1/samples", json={"samples": rows}, headers=headers)
                except httpx.HTTPError:
                    time.sleep(0.2)
                    continue  # not acknowledged: the same again, which counts once
                if answer.status_code == 200:
                    self.acknowledged.append(name)
                    number += 1
                else:
                    self.refusals.append(answer.status_code)
                    time.sleep(0.1)

    def finish(self) -> None:
        self._over.set()
        self.join(60)

    def wait_for(self, more: int) -> None:
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + PATIENCE_S
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, f"no more samples are acknowledged: {self.refusals[-3:]}"
            time.sleep(0.05)


def stored(database: str) -> list[str]:
    store = open_store(database)
    with store.reading() as session:
        found = [name for table in read_samples(session, 0) for name in table["server"].to_pylist()]
    store.close()
    return found


def check(writer: Writer, database: str, width: int = 1) -> None:
    """Every acknowledged row is there once; besides there may be the one whose answer was cut off."""
    found = stored(database)
    assert {name: found.count(name) for name in writer.acknowledged} == dict.fromkeys(writer.acknowledged, width)
    assert len(found) <= (len(writer.acknowledged) + 1) * width


def test_the_history_and_then_the_whole_service_are_killed_while_samples_flow(tmp_path: Path) -> None:
    with service_in(tmp_path) as service:
        writer = Writer(service)
        writer.start()
        try:
            writer.wait_for(20)
            victim = service.replica("history")
            os.kill(victim, signal.SIGKILL)
            writer.wait_for(20)
            assert service.replica("history") != victim
            service.kill()
            service.start()
            writer.wait_for(20)
        finally:
            writer.finish()
        shown = httpx.get(
            f"http://127.0.0.1:{service.port}/v1/servers/{writer.acknowledged[0]}/history",
            headers={"Authorization": f"Bearer {service.key}"}, timeout=30, trust_env=False,
        )  # fmt: skip
        assert shown.status_code == 200, "the samples of before the kills are served again"
    check(writer, service.database)


def test_the_database_crashes_and_comes_back_while_samples_flow() -> None:
    with postgres.running() as database:
        with service_on(database.url) as service:
            writer = Writer(service)
            writer.start()
            try:
                writer.wait_for(20)
                database.stop()
                wait_for(lambda: 503 in writer.refusals, "a refusal", PATIENCE_S)
                before = len(writer.acknowledged)
                time.sleep(2.0)
                assert len(writer.acknowledged) == before, "nothing is acknowledged without a database"
                database.start()
                writer.wait_for(20)
            finally:
                writer.finish()
        check(writer, database.url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk_is_said_and_nothing_acknowledged_is_lost_and_room_lets_it_go_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        with service_in(disk) as service:
            ballast = disk / "ballast"
            writer = Writer(service, width=30)
            writer.start()
            try:
                writer.wait_for(5)
                with ballast.open("wb") as file:
                    free = shutil.disk_usage(disk).free
                    file.write(b"x" * max(0, free - 300_000))
                deadline = time.monotonic() + PATIENCE_S
                while 507 not in writer.refusals:
                    assert time.monotonic() < deadline, f"the disk is not full: {len(writer.acknowledged)}"
                    time.sleep(0.05)
                assert set(writer.refusals) <= {503, 507}
                ballast.unlink()
                writer.wait_for(5)
            finally:
                writer.finish()
        check(writer, service.database, width=30)
    finally:
        # a killed process lets go of its files a little after it counts as ended
        wait_for(lambda: not subprocess.run(["umount", str(disk)], check=False).returncode, "the disk's end", 30.0)
