"""A training on a cluster with less room than asked for runs with the workers that there is room for, and says so."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetcast.forecast.forecaster import Forecaster

pytestmark = pytest.mark.system
RAY = Path(sys.executable).with_name("ray")
START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def cluster_of_one_core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that joins a cluster whose only node has one core."""
    folder, port = tmp_path_factory.mktemp("ray"), free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FLEETCAST_"))}
    environment |= {"HOME": str(folder), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    command = [
        RAY, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=1",
        f"--ray-client-server-port={free_port()}", "--include-dashboard=false", "--object-store-memory=100000000",
        f"--temp-dir={folder}",
    ]  # fmt: skip
    log = folder / "head.log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while "will now block" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, "the cluster did not come up"
                time.sleep(0.2)
            yield {**environment, "RAY_ADDRESS": f"127.0.0.1:{port}"}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def test_fewer_workers_than_asked_for(cluster_of_one_core: dict[str, str], tiny_dataset: Path, tmp_path: Path) -> None:
    words = shlex.split("--preset tiny --holdout 30h --epochs 1 --samples-per-epoch 64 --run small --workers 2")
    places = ["--data", str(tiny_dataset), "--models", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.train", *places, *words],
        env=cluster_of_one_core, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "training with 1 of 2 workers" in done.stderr
    records = [json.loads(line) for line in (tmp_path / "small" / "metrics.jsonl").read_text().splitlines()]
    assert [(record["workers"], record["asked"]) for record in records if record["kind"] == "workers"] == [(1, 2)]
    Forecaster.load(tmp_path / "small" / "bundle")
