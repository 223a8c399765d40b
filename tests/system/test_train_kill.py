"""A training is killed or interrupted in mid-epoch; it goes on from a checkpoint within the epoch and ends as ever."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.manifest import load_manifest
from fleetcast.operate.status import collect_status
from fleetcast.settings import Settings
from fleetcast.training.checkpoint import LAST, CheckpointStore

pytestmark = pytest.mark.system
EPOCHS = 2
ARGUMENTS = f"--preset tiny --holdout 30h --epochs {EPOCHS} --batch-size 8 --samples-per-epoch 480 --run killed"
Record = dict[str, Any]


class Training:
    """`fleetcast train` in a process group of its own, and what it keeps in the run's folder."""

    def __init__(self, data: Path, place: Path, workers: int = 1, environment: Mapping[str, str] = os.environ) -> None:
        self.models, self.folder, self.home = place / "models", place / "models" / "killed", place / "home"
        self.home.mkdir(exist_ok=True)
        words = ["--data", str(data), "--models", str(self.models), *shlex.split(ARGUMENTS)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs.train", *words, "--workers", str(workers), "--checkpoint-seconds", "0.5"],
            env={**environment, "HOME": str(self.home), "FLEETCAST_RAY__NUM_CPUS": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def records(self) -> list[Record]:
        file = self.folder / "metrics.jsonl"
        return (
            [json.loads(line) for line in file.read_text().splitlines(True) if line[-1] == "\n"]
            if file.exists()
            else []
        )

    def wait_for(self, what: Callable[[list[Record]], bool]) -> None:
        deadline = time.monotonic() + 120
        while not what(self.records()):
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            assert time.monotonic() < deadline, self.records()
            time.sleep(0.05)

    def wait_until_within_an_epoch(self) -> int:
        """Until there is a checkpoint within the first epoch; returns its step."""
        store = CheckpointStore(str(self.folder / "checkpoints"))

        def within(records: list[Record]) -> bool:
            checkpoint = store.read(LAST) if records else None
            told = any(record["kind"] == "step" for record in records)
            return told and checkpoint is not None and checkpoint[1]["batches_done"] > 0

        self.wait_for(within)
        checkpoint = store.read(LAST)
        assert checkpoint is not None
        assert checkpoint[1]["epochs_done"] == 0, "the epoch is too short for this test"
        return int(checkpoint[1]["steps_done"])

    def finish(self) -> str:
        """Wait for its end, which must be a good one; returns standard error."""
        _, errors = self.process.communicate(timeout=200)
        assert self.process.returncode == 0, errors
        return errors

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def starts(records: list[Record]) -> list[int]:
    """The step that each group of workers began to train at."""
    return [record["step"] for record in records if record["kind"] == "training"]


def require_whole(training: Training) -> None:
    """The same kind of result as of a training that nobody disturbed."""
    bundle = training.folder / "bundle"
    Forecaster.load(bundle)
    manifest, records = load_manifest(bundle), training.records()
    assert manifest.training["best"]["validation_loss"] > 0
    epochs = [record["epoch"] for record in records if record["kind"] == "epoch"]
    assert epochs == list(range(1, EPOCHS + 1)), "no epoch is left out or ended twice"
    last = next(record for record in reversed(records) if record["kind"] == "epoch")
    assert last["step"] == last["steps"]
    assert (training.models / "current").exists()
    left = [path for path in training.folder.rglob("*") if path.name.endswith(".partial")]
    assert not left


def status_of(training: Training) -> Record:
    (found,) = collect_status(Settings(home=training.home / "none"), training.models)["trainings"]
    return dict(found)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=60)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_a_killed_worker_is_replaced_and_goes_on_within_the_epoch(tiny_dataset: Path, tmp_path: Path) -> None:
    training = Training(tiny_dataset, tmp_path, workers=2)
    step = training.wait_until_within_an_epoch()
    workers = [one for one in training.descendants() if _is_worker(one)]
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)
    errors = training.finish()
    assert "starting again from the last checkpoint" in errors
    first, second = starts(training.records())
    assert first == 0
    assert second >= step > 0
    require_whole(training)


def test_the_same_command_goes_on_after_the_driver_was_killed(tiny_dataset: Path, tmp_path: Path) -> None:
    training = Training(tiny_dataset, tmp_path)
    step = training.wait_until_within_an_epoch()
    running = status_of(training)
    assert (running["state"], running["pid"]) == ("running", training.process.pid)
    family = [one for one in training.descendants() if not one.name().endswith("Agent")]  # Ray's live on for a minute
    os.kill(training.process.pid, signal.SIGKILL)
    training.process.communicate()
    assert gone(family), "workers and Ray go with the driver"
    interrupted = status_of(training)
    assert interrupted["state"] == "interrupted"
    assert 0 < interrupted["progress"]["step"] < interrupted["progress"]["steps"]
    assert "fleetcast train " in interrupted["go_on_with"]
    with (training.folder / "metrics.jsonl").open("a") as file:
        file.write('{"time": "torn')  # as a kill within a write leaves it
    second = Training(tiny_dataset, tmp_path)
    _, errors = second.process.communicate(timeout=200)
    assert second.process.returncode == 0, errors
    assert "goes on at step" in errors
    lines = (training.folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines if not line.endswith("torn")]
    assert starts(records)[1] >= step > 0
    assert collect_status(Settings(home=tmp_path / "none"), training.models)["trainings"] == []
    third = Training(tiny_dataset, tmp_path)
    _, errors = third.process.communicate(timeout=60)
    assert third.process.returncode == 1
    assert "is there already and finished" in errors.splitlines()[-1]
    (training.folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    require_whole(training)


def test_ctrl_c_leaves_a_checkpoint_says_how_to_go_on_and_no_process(tiny_dataset: Path, tmp_path: Path) -> None:
    training = Training(tiny_dataset, tmp_path)
    training.wait_until_within_an_epoch()
    family = training.descendants()
    os.killpg(training.process.pid, signal.SIGINT)  # as a terminal sends it, to all of the group
    _, errors = training.process.communicate(timeout=60)
    assert training.process.returncode == 130, errors
    assert gone(family)
    command = status_of(training)["go_on_with"]
    assert f"go on with: {command}" in errors
    saved = next(record for record in training.records() if record["kind"] == "saved")
    words = shlex.split(command)
    done = subprocess.run(
        [sys.executable, "-m", "jobs.train", *words[2:]],
        env={**os.environ, "HOME": str(training.home), "FLEETCAST_RAY__NUM_CPUS": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert starts(training.records()) == [0, saved["step"]], "nothing that was done is done again"
    require_whole(training)


def test_a_second_ctrl_c_ends_at_once_and_the_last_checkpoint_goes_on(tiny_dataset: Path, tmp_path: Path) -> None:
    training = Training(tiny_dataset, tmp_path)
    step = training.wait_until_within_an_epoch()
    family = training.descendants()
    training.process.send_signal(signal.SIGINT)
    training.wait_for(lambda records: any(record["kind"] == "stopping" for record in records))
    training.process.send_signal(signal.SIGINT)
    _, errors = training.process.communicate(timeout=60)
    assert training.process.returncode == 130, errors
    assert gone(family)
    assert "go on with: fleetcast train" in errors
    assert not [line for line in errors.splitlines() if line.startswith("Traceback")]
    second = Training(tiny_dataset, tmp_path)
    second.finish()
    assert starts(second.records())[1] >= step > 0
    require_whole(second)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB in memory, in the place of a training's models."""
    place = tmp_path / "models"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("a full disk is made with `mount`, which is not here")
    if done.returncode:
        pytest.skip(f"a full disk needs the right to mount one: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(
    tiny_dataset: Path, tmp_path: Path, small_disk: Path
) -> None:
    training = Training(tiny_dataset, tmp_path)
    step = training.wait_until_within_an_epoch()
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    _, errors = training.process.communicate(timeout=120)
    assert training.process.returncode == 1, errors
    said = [line for line in errors.splitlines() if "No space left" in line and "free some space" in line]
    assert len(said) == 1
    assert said == errors.splitlines()[-1:], errors
    assert "Traceback" not in errors
    assert not [path for path in training.folder.rglob("*") if path.name.endswith(".partial")]
    assert not (training.folder / "bundle").exists()
    ballast.unlink()
    second = Training(tiny_dataset, tmp_path)
    second.finish()
    assert starts(second.records())[-1] >= step > 0
    require_whole(second)


def _is_worker(process: psutil.Process) -> bool:
    try:
        title = (process.cmdline() or [""])[0]
    except psutil.Error:
        return False
    return title.startswith("ray::") and "TrainWorker" in title
