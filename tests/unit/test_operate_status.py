"""`fleetcast status` tells what is there and runs, and only that."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

import fleetcast
from fleetcast.contract.vocabulary import VERSION
from fleetcast.dataset.manifest import Manifest, Part
from fleetcast.operate import locks
from fleetcast.operate.home import make_home
from fleetcast.operate.status import collect_status
from fleetcast.settings import Settings
from fleetcast.training.folder import RunFolder
from fleetcast.training.log import RunLog


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETCAST_API_KEY", raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    make_home(tmp_path / "home")
    return Settings(home=tmp_path / "home")


def test_an_empty_home(settings: Settings, tmp_path: Path) -> None:
    status = collect_status(settings)
    assert json.loads(json.dumps(status)) == status
    assert (status["version"], status["contract_version"]) == (fleetcast.__version__, VERSION)
    assert status["home"] == str(tmp_path / "home")
    assert status["service"]["up"] is False
    assert status["service"]["ready"] is None
    assert (status["trainings"], status["models"], status["datasets"]) == ([], [], [])


def test_a_home_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    status = collect_status(Settings(home=tmp_path / "nowhere"))
    assert (status["home_exists"], status["home_bytes"]) == (False, 0)
    assert not (tmp_path / "nowhere").exists()


def test_running_trainings_in_home_and_in_the_models_folder(settings: Settings, tmp_path: Path) -> None:
    ours, theirs = settings.home / "demo" / "models" / "a" / "run.lock", tmp_path / "models" / "b" / "run.lock"
    with locks.hold(ours) as holder, locks.hold(theirs):
        trainings = collect_status(settings, tmp_path / "models")["trainings"]
        assert [training["lock"] for training in trainings] == [str(ours), str(theirs)]
        assert trainings[0]["pid"] == os.getpid()
        assert datetime.fromisoformat(trainings[0]["started"]) == holder.started
    assert collect_status(settings, tmp_path / "models")["trainings"] == []


def test_an_interrupted_run_is_shown_with_the_command_that_goes_on(settings: Settings) -> None:
    folder = RunFolder(settings.home / "models" / "a")
    folder.path.mkdir(parents=True)
    content = {"options": {}, "identity": {}, "command": "fleetcast train --run a"}
    folder.write(content)
    with RunLog(folder) as log:
        log.write({"kind": "step", "epoch": 2, "step": 7, "loss": 0.5, "learning_rate": 1e-3, "samples_per_s": 9.0})
    with folder.metrics.open("a") as file:
        file.write('{"torn')
    (found,) = collect_status(settings)["trainings"]
    assert (found["state"], found["go_on_with"]) == ("interrupted", "fleetcast train --run a")
    assert (found["progress"]["step"], found["progress"]["loss"]) == (7, 0.5)
    with RunLog(folder) as log:
        log.write({"kind": "stopped"})
    lines = folder.metrics.read_text().splitlines()
    assert [line[:6] for line in lines] == ['{"time', '{"torn', '{"time'], "a torn line swallows no later one"
    events = list((folder.path / "tensorboard").iterdir())
    assert any(b"learning_rate" in file.read_bytes() for file in events)
    folder.bundle.mkdir()
    assert collect_status(settings)["trainings"] == []


def test_datasets_and_the_current_model(settings: Settings) -> None:
    start, end = datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 6, tzinfo=UTC)
    part = Part(name="part-0.parquet", sha256="0", rows=6, servers=["a", "b"], start=start, end=end)
    manifest = Manifest(metrics=["cpu_utilization"], rows=6, start=start, end=end, parts=[part])
    (settings.home / "demo" / "data").mkdir(parents=True)
    (settings.home / "demo" / "data" / "manifest.json").write_text(manifest.model_dump_json())
    (settings.home / "broken").mkdir()
    (settings.home / "broken" / "manifest.json").write_text("{")
    bundle = settings.home / "models" / "run-1" / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text('{"run": "run-1", "targets": ["cpu_utilization"]}')
    (bundle / "model.safetensors").write_bytes(b"w")
    (settings.home / "models" / "current").symlink_to("run-1/bundle")
    status = collect_status(settings)
    broken, found = status["datasets"]
    assert (found["path"], found["servers"], found["rows"]) == (str(settings.home / "demo" / "data"), 2, 6)
    assert broken["path"] == str(settings.home / "broken")
    assert "damaged" in broken["error"]
    (model,) = status["models"]
    assert model["path"] == str(settings.home / "models" / "current")
    assert (model["manifest"]["run"], model["manifest"]["targets"]) == ("run-1", ["cpu_utilization"])


def test_ray_is_reachable_only_when_something_listens(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings.ray.address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert collect_status(settings)["ray"]["reachable"] is True
    assert collect_status(settings)["ray"]["reachable"] is False
