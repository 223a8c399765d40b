"""A disk that stalls while a checkpoint is written: nothing is lost or mixed, and nothing waits for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from fleetcast.errors import TrainingError
from fleetcast.training import callbacks
from fleetcast.training.checkpoint import AVERAGE, BEST, LAST, NETWORK, CheckpointStore, part
from fleetcast.training.module import ForecastModule
from fleetcast.training.plan import TrainPlan
from fleetcast.training.progress import lines_of
from tests.unit.test_training_resume import EPOCHS, STEPS_PER_EPOCH, Notes, new_store, plan, quick_steps, run

__all__ = ["plan", "quick_steps"]  # fixtures


class Disk:
    """A file system that can be frozen: who writes waits until it is thawed, who reads sees what was there."""

    def __init__(self, place: Path) -> None:
        self.place, self.frozen = place, False

    def freeze(self) -> None:
        self.frozen = True
        subprocess.run(["fsfreeze", "--freeze", str(self.place)], check=True)

    def thaw(self) -> None:
        if self.frozen:
            subprocess.run(["fsfreeze", "--unfreeze", str(self.place)], check=True)
        self.frozen = False


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of its own, in a file."""
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(32 * 2**20)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip(f"a disk that stalls is made with {command[0]}, which is not here")
        if done.returncode:
            pytest.skip(f"a disk that stalls needs the right to mount one: {done.stderr.strip()}")
    made = Disk(place)
    try:
        yield made
    finally:
        made.thaw()
        subprocess.run(["umount", "--lazy", str(place)], check=True)


class Stalling(Notes):
    """Freezes the disk at a step, with a checkpoint before it, and thaws it at a later one."""

    def __init__(self, disk: Disk, store: CheckpointStore, freeze_at: int, thaw_at: int | None) -> None:
        super().__init__()
        self.disk, self.store, self.freeze_at, self.thaw_at = disk, store, freeze_at, thaw_at
        self.while_frozen: list[int] = []

    def post(self, message: dict[str, Any]) -> bool:
        if message["kind"] == "step" and message["step"] == self.freeze_at and not self.disk.frozen:
            wait_until(lambda: self.store.read(LAST) is not None and not partial(self.disk))
            self.disk.freeze()
        elif self.disk.frozen:
            self.while_frozen.append(steps_of(self.store))
            if message["step"] == self.thaw_at:
                self.disk.thaw()
        return super().post(message)


def wait_until(what: Any) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def partial(disk: Disk) -> list[Path]:
    return list(disk.place.rglob(".*.partial"))


def steps_of(store: CheckpointStore) -> int:
    checkpoint = store.read(LAST)
    assert checkpoint is not None
    return int(checkpoint[1]["steps_done"])


def require_checkpoint_of(module: ForecastModule, store: CheckpointStore) -> None:
    """The last checkpoint is the end of the training, and the best one a whole one of an epoch."""
    checkpoint, best = store.read(LAST), store.read(BEST)
    assert checkpoint is not None
    assert best is not None
    assert checkpoint[1]["steps_done"] == module.steps_done == EPOCHS * STEPS_PER_EPOCH
    assert best[1]["metrics"]["validation_loss"] == checkpoint[1]["best_loss"]
    for network, prefix in ((module.network, NETWORK), (module.average, AVERAGE)):
        for name, tensor in part(checkpoint[0], prefix).items():
            assert torch.equal(tensor, network.state_dict()[name])


def test_steps_go_on_while_the_disk_stalls_and_the_next_checkpoint_is_whole(
    plan: TrainPlan, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "SLOW_SECONDS", 0.0)
    store = new_store(disk.place / "run")
    board = Stalling(disk, store, freeze_at=1, thaw_at=4)
    module = run(plan.model_copy(update={"checkpoint_seconds": 1e-6}), store, board, [])
    assert len(set(board.while_frozen)) == 1, "the checkpoint from before is still whole"
    (line, *_) = [line for message in board.messages if message["kind"] == "slow" for line in lines_of(message)]
    assert "the disk is slow" in line
    assert not partial(disk)
    require_checkpoint_of(module, store)


def test_a_disk_that_stalls_for_good_ends_the_training_which_goes_on_once_it_is_mended(
    plan: TrainPlan, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = plan.model_copy(update={"checkpoint_seconds": 1e-6})
    store = new_store(disk.place / "run")
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "STALL_SECONDS", 1.0)
        with pytest.raises(TrainingError, match="was not written within 1 s: mend the disk; the same command"):
            run(often, store, Stalling(disk, store, freeze_at=1, thaw_at=None), [])
    assert steps_of(store) >= 0
    disk.thaw()
    wait_until(lambda: not partial(disk))
    before = steps_of(store)
    board = Notes()
    module = run(often, store, board, [])
    assert board.messages[0]["step"] == before
    require_checkpoint_of(module, store)
