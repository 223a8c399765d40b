"""From `ray job submit` on a cluster that `ray start --head` began, with a token, to a model bundle on disk."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Head:
    """A running head: where jobs are submitted and the environment that holds its token."""

    address: str
    environment: dict[str, str]

    def submit(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Submit the repository's folder and wait for the job's end."""
        return subprocess.run(
            [RAY, "job", "submit", f"--address={self.address}", "--working-dir", ".", "--", "python", "-m", *command],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def get(url: str, token: str | None = None) -> int:
    """The status code of a GET, 0 when nothing answers."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder = tmp_path_factory.mktemp("ray")
    port, dashboard, client = free_ports(3)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FLEETCAST_"))}
    environment |= {
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}", "--dashboard-agent-listen-port=0", "--num-cpus=2",
        "--object-store-memory=200000000", f"--temp-dir={folder}",
    ]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{dashboard}"
            deadline = time.monotonic() + START_TIMEOUT_S
            while get(f"{address}/api/version", environment["RAY_AUTH_TOKEN"]) != 200:
                assert process.poll() is None, (folder / "head.log").read_text()
                assert time.monotonic() < deadline, "the head did not come up"
                time.sleep(0.2)
            yield Head(address, environment)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.mark.system
@pytest.mark.timeout(600)
def test_from_submission_to_a_bundle_on_disk(head: Head, tmp_path: Path) -> None:
    from fleetcast.dataset.reader import Dataset
    from fleetcast.model.bundle import Bundle

    data, models = tmp_path / "data", tmp_path / "models"
    assert get(f"{head.address}/api/jobs/") == 401, "the cluster takes jobs from anyone"

    simulated = head.submit("jobs.simulate", "--servers", "4", "--hours", "72", "--seed", "1", "--out", str(data))
    assert simulated.returncode == 0, simulated.stdout + simulated.stderr
    assert len(Dataset.open(data).manifest.servers) == 4

    size = ("--preset", "tiny", "--context", "72", "--horizon", "12", "--epochs", "1", "--workers", "1")
    trained = head.submit("jobs.train", "--data", str(data), "--models", str(models), *size)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    (bundle,) = models.glob("*/bundle")
    manifest = Bundle.load(bundle).manifest
    assert (manifest.preset, manifest.context, manifest.horizon) == ("tiny", 72, 12)
    assert manifest.data_fingerprint == Dataset.open(data).manifest.fingerprint


@pytest.mark.system
@pytest.mark.timeout(300)
def test_a_job_that_fails_says_why_and_exits_with_a_failure(head: Head, tmp_path: Path) -> None:
    done = head.submit("jobs.simulate", "--servers", "0", "--hours", "1", "--out", str(tmp_path / "data"))
    assert done.returncode != 0
    assert "servers is 0" in done.stdout
    assert not (tmp_path / "data").exists()
