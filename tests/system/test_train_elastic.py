"""A training on a cluster with too little room, or whose node dies, runs with the workers that there is room for."""

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
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fleetcast.forecast.forecaster import Forecaster
from tests.system.test_train_kill import Training, require_whole, starts

pytestmark = pytest.mark.system
RAY = Path(sys.executable).with_name("ray")
START_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def node(environment: dict[str, str], log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start` of a node with one core, which is up; ended afterwards."""
    command = [str(RAY), "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", *words]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while "will now block" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, "the node did not come up"
                time.sleep(0.2)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


@pytest.fixture
def cluster_of_one_core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that joins a cluster whose only node has one core."""
    folder, address = tmp_path_factory.mktemp("ray"), f"127.0.0.1:{free_port()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FLEETCAST_"))}
    environment |= {"HOME": str(folder), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
    words = [
        "--head", f"--port={address.split(':')[1]}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}",
        f"--ray-client-server-port={free_port()}", "--include-dashboard=false",
    ]  # fmt: skip
    with node(environment, folder / "head.log", *words):
        yield {**environment, "RAY_ADDRESS": address}


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


def test_a_node_that_dies_in_mid_epoch_leaves_the_training_to_the_others(
    cluster_of_one_core: dict[str, str], tiny_dataset: Path, tmp_path: Path
) -> None:
    alone = {name: value for name, value in cluster_of_one_core.items() if name != "RAY_ADDRESS"}
    words = [f"--address={cluster_of_one_core['RAY_ADDRESS']}", "--node-ip-address=127.0.0.1"]
    with node(alone, tmp_path / "node.log", *words) as second:
        training = Training(tiny_dataset, tmp_path, workers=2, environment=cluster_of_one_core)
        step = training.wait_until_within_an_epoch()
        family = psutil.Process(second.pid).children(recursive=True)
        titles = [" ".join(one.cmdline()) for one in family]
        assert any("raylet" in title for title in titles), titles
        assert sum("TrainWorker" in title for title in titles) == 1, "each node trains"
        for one in family:
            one.kill()
        errors = training.finish()
    assert "starting again from the last checkpoint" in errors
    assert "training with 1 of 2 workers" in errors
    records = training.records()
    assert [record["workers"] for record in records if record["kind"] == "workers"] == [2, 1]
    first, again = starts(records)
    assert first == 0
    assert again >= step > 0
    require_whole(training)
