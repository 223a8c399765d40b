"""A training that was stopped anywhere goes on to what it would have become, and shows no window of an epoch twice."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import TrainingError
from fleetcast.training import callbacks, loaders
from fleetcast.training.board import TrainingStoppedError
from fleetcast.training.callbacks import RunCallback
from fleetcast.training.checkpoint import BEST, LAST, CheckpointStore, restore
from fleetcast.training.loaders import make_loaders
from fleetcast.training.module import ForecastModule
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan, make_plan
from fleetcast.training.progress import lines_of
from fleetcast.training.trainer import EpochBatches, trainer_arguments
from fleetcast.windows.sampling import WindowLoader

STEPS_PER_EPOCH, BATCH, EPOCHS = 5, 16, 2


class Notes:
    """A board in this process, which orders to stop once a training is at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.messages = stop_at, list[dict[str, Any]]()

    def post(self, message: dict[str, Any]) -> bool:
        self.messages.append(message)
        return self.stop_at is not None and message["kind"] == "step" and message["step"] >= self.stop_at


class Watched(WindowLoader):
    """A loader that notes down which windows of which epoch it gave."""

    seen: list[tuple[int, int]]

    @classmethod
    def around(cls, loader: WindowLoader, seen: list[tuple[int, int]]) -> Watched:
        watched = cls(loader.batcher, loader.windows, BATCH, 0, 1, loader.samples, loader.seed)
        watched.seen = seen
        return watched

    def __iter__(self) -> Any:
        mine = self.indices()[self.skip_batches * BATCH :]
        for number, batch in enumerate(super().__iter__()):
            self.seen += [(self.epoch, int(one)) for one in mine[number * BATCH : (number + 1) * BATCH]]
            yield batch


@pytest.fixture(scope="module")
def plan(tiny_dataset: Path) -> TrainPlan:
    options = TrainOptions(
        data=str(tiny_dataset),
        models="models",
        preset="tiny",
        holdout=timedelta(hours=30),
        samples_per_epoch=STEPS_PER_EPOCH * BATCH,
        batch_size=BATCH,
        epochs=EPOCHS,
    )
    return make_plan(options, Dataset.open(tiny_dataset).manifest)


@pytest.fixture(autouse=True)
def quick_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(loaders, "VALIDATION_WINDOWS", 48)


def with_dropout(plan: TrainPlan, dropout: float) -> TrainPlan:
    """With an average that begins within these few steps, too."""
    network = plan.network.model_copy(update={"dropout": dropout})
    return plan.model_copy(update={"network": network, "average_decay": 0.7})


def run(plan: TrainPlan, store: CheckpointStore, board: Notes, seen: list[tuple[int, int]]) -> ForecastModule:
    """What a worker does, in this process and without Ray."""
    pl.seed_everything(plan.seed, verbose=False)
    training, validation = make_loaders(plan, 0, 1)
    watched = Watched.around(training, seen)
    module = ForecastModule(plan, len(watched), torch.ones(plan.network.targets))
    checkpoint = store.read(LAST)
    if checkpoint is not None:
        restore(checkpoint, module)
    callback = RunCallback(board, store, checkpoint[0] if checkpoint else None)
    arguments = trainer_arguments(plan, plan.epochs - module.epochs_done, False, [callback])
    trainer = pl.Trainer(**{**arguments, "strategy": "auto", "plugins": None})
    trainer.fit(module, EpochBatches(watched, module), validation)
    return module


def new_store(path: Path) -> CheckpointStore:
    store = CheckpointStore(str(path))
    store.clear()
    return store


@pytest.mark.parametrize(("dropout", "stops"), [(0.0, (1,)), (0.0, (4, 7)), (0.0, (5,)), (0.2, (3, 8))])
def test_a_training_in_pieces_becomes_what_it_becomes_in_one_go(
    plan: TrainPlan, tmp_path: Path, dropout: float, stops: tuple[int, ...]
) -> None:
    plan = with_dropout(plan, dropout)
    once: list[tuple[int, int]] = []
    whole = run(plan, new_store(tmp_path / "whole"), Notes(), once)
    store, seen = new_store(tmp_path / "pieces"), list[tuple[int, int]]()
    rates: list[float] = []
    for stop in stops:
        board = Notes(stop_at=stop)
        with pytest.raises(TrainingStoppedError):
            run(plan, store, board, seen)
        checkpoint = store.read(LAST)
        assert checkpoint is not None
        assert checkpoint[1]["steps_done"] == stop == board.messages[-1]["step"]
        assert board.messages[-1]["kind"] == "saved"
        # The batch that was fetched but not trained on comes again.
        del seen[stop * BATCH :]
        rates += [message["learning_rate"] for message in board.messages if message["kind"] == "step"]
    last = run(plan, store, Notes(), seen)
    assert last.steps_done == whole.steps_done == EPOCHS * STEPS_PER_EPOCH
    assert seen == once, "each window of an epoch once, in the same order"
    for ours, theirs in ((last.network, whole.network), (last.average, whole.average)):
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert last.metrics["validation_loss"] == pytest.approx(whole.metrics["validation_loss"], rel=1e-4)
    assert last.metrics["train_loss"] == pytest.approx(whole.metrics["train_loss"], rel=1e-4)


def test_a_checkpoint_is_due_by_wall_time_within_an_epoch(plan: TrainPlan, tmp_path: Path) -> None:
    store, often = new_store(tmp_path), plan.model_copy(update={"checkpoint_seconds": 1e-6, "epochs": 1})

    class Reader(Notes):
        def post(self, message: dict[str, Any]) -> bool:
            checkpoint = store.read(LAST)
            self.saved = [*getattr(self, "saved", []), checkpoint[1]["steps_done"] if checkpoint else 0]
            return super().post(message)

    board = Reader()
    run(often, store, board, [])
    assert any(0 < step < STEPS_PER_EPOCH for step in board.saved)
    assert board.saved == sorted(board.saved)
    best = store.read(BEST)
    assert best is not None
    assert best[1]["metrics"]["epoch"] == 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


@pytest.mark.parametrize(
    ("before", "after"), [((2, 16), (1, 16)), ((1, 16), (2, 16)), ((2, 16), (3, 8)), ((2, 16), (2, 16))]
)
def test_other_workers_and_batch_sizes_begin_the_epoch_anew(
    plan: TrainPlan, before: tuple[int, int], after: tuple[int, int]
) -> None:
    def module_of(world: int, size: int) -> ForecastModule:
        changed = plan.model_copy(update={"batch_size": size})
        return ForecastModule(changed, 6, torch.ones(plan.network.targets), world)

    old, new = module_of(*before), module_of(*after)
    old.steps_done, old.epochs_done, old.batches_done = 8, 1, 2
    new.resume(json.loads(json.dumps(old.progress())))
    assert (new.steps_done, new.epochs_done) == (8, 1)
    assert new.batches_done == (2 if before == after else 0)


def test_weights_that_are_not_finite_never_become_a_checkpoint(plan: TrainPlan, tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(TrainingError, match="learning-rate"):
        run(plan.model_copy(update={"learning_rate": 1e20, "checkpoint_seconds": 1e-6}), store, Notes(), [])
    checkpoint = store.read(LAST)
    assert checkpoint is None or all(np.isfinite(tensor.numpy()).all() for tensor in checkpoint[0].values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_step_in_each_precision_of_a_cpu(plan: TrainPlan, tmp_path: Path, precision: str) -> None:
    module = run(plan.model_copy(update={"precision": precision, "epochs": 1}), new_store(tmp_path), Notes(), [])
    assert module.trainer.precision == precision
    assert np.isfinite(module.metrics["validation_loss"])
    assert {tensor.dtype for tensor in module.network.parameters()} == {torch.float32}


def test_a_training_without_a_compiler_says_why_it_is_slower(
    plan: TrainPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCAST_FORECAST__KERNELS", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    module = ForecastModule(plan, 1, torch.ones(plan.network.targets))
    reason = module.use_kernels()
    assert module.network.transformer.kernels is None
    (line,) = lines_of({"kind": "eager", "reason": reason})
    assert "apt-get install g++" in line


def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert store.read(LAST) is None
    store.write(LAST, {"a": torch.zeros(3)}, {"steps_done": 1})
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:-4])
    with pytest.raises(TrainingError, match=r"last.safetensors .* is damaged"):
        store.read(LAST)
