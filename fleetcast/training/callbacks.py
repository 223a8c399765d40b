"""The Lightning callback of a worker: reports to the driver, checkpoints, stopping when told to."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import lightning.pytorch as pl

from fleetcast.errors import TrainingError
from fleetcast.training.board import Board, TrainingStoppedError
from fleetcast.training.checkpoint import BEST, LAST, CheckpointStore, Tensors, restore_optimizer, snapshot
from fleetcast.training.module import ForecastModule

REPORT_SECONDS = 1.0
SLOW_SECONDS, STALL_SECONDS = 30.0, 600.0  # a checkpoint that takes so long to write is told; ends the training


class RunCallback(pl.Callback):
    """Rank 0 reports about once a second, and writes a checkpoint when the wall time is due and after each epoch.

    All workers hold the same weights, so that no other needs to write or to agree. All that is done between two steps,
    where weights, average and counts belong together; a thread waits for the disk. While it does, the steps go on and
    no other checkpoint is begun; the end of an epoch waits for it.

    Raises `TrainingStoppedError` in the worker, with a checkpoint on the disk, when the driver orders to stop, and
    `TrainingError` when a checkpoint could not be written, or not within `STALL_SECONDS`.
    """

    def __init__(self, board: Board, store: CheckpointStore, resumed: Tensors | None) -> None:
        self.board, self.store, self.resumed = board, store, resumed
        self.writer = ThreadPoolExecutor(1)
        self.writing: Future[None] | None = None
        self.slow = False
        self.started = self.reported = self.saved = time.monotonic()
        self.reported_step = self.saved_step = self.started_position = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the optimizer of a resumed run, and say where the training starts."""
        module = _ours(pl_module)
        if self.resumed is not None:
            restore_optimizer(self.resumed, trainer.optimizers[0])
            self.resumed = None
        self.started = self.reported = self.saved = time.monotonic()
        self.reported_step = self.saved_step = module.steps_done
        self.started_position = module.position
        if trainer.is_global_zero:
            self._post({**self._where(module), "kind": "training", "workers": module.world}, trainer, module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        """Report and write what is due before the step."""
        if not trainer.is_global_zero:
            return
        module, now = _ours(pl_module), time.monotonic()
        if self.writing is not None:
            self._watch(trainer, module, now)
        if now - self.reported >= REPORT_SECONDS:
            self._post(self._step(trainer, module, now), trainer, module)
        if self.writing is None and now - self.saved >= module.plan.checkpoint_seconds:
            self._save(trainer, module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the validation out of the rate."""
        self.reported, self.reported_step = time.monotonic(), _ours(pl_module).steps_done

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the epoch, write its checkpoint, and the best one when it is that."""
        module = _ours(pl_module)
        best = module.end_epoch()  # sums over all workers
        if not trainer.is_global_zero:
            return
        self._save(trainer, module, best)
        self._post({**self._where(module), "kind": "epoch", **module.metrics}, trainer, module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the last checkpoint."""
        self._wait()

    def _post(self, message: dict[str, Any], trainer: pl.Trainer, module: ForecastModule) -> None:
        """Report; stop when the answer is to."""
        if not self.board.post(message):
            return
        if module.steps_done > self.saved_step:
            self._save(trainer, module)
        self._wait()
        self.board.post({**self._where(module), "kind": "saved"})
        raise TrainingStoppedError

    def _save(self, trainer: pl.Trainer, module: ForecastModule, best: bool = False) -> None:
        tensors, state = snapshot(module, trainer.optimizers[0])
        self._wait()
        self.writing = self.writer.submit(_write, self.store, tensors, state, best)
        self.saved, self.saved_step, self.slow = time.monotonic(), module.steps_done, False

    def _wait(self) -> None:
        if self.writing is None:
            return
        try:
            self.writing.result(max(0.0, self.saved + STALL_SECONDS - time.monotonic()))
        except TimeoutError as error:
            raise TrainingError(
                f"the checkpoint of step {self.saved_step} was not written within {STALL_SECONDS:g} s: mend the disk; "
                "the same command then goes on from the last checkpoint"
            ) from error
        self.writing = None

    def _watch(self, trainer: pl.Trainer, module: ForecastModule, now: float) -> None:
        """Look after the checkpoint that is being written."""
        if self.writing is not None and (self.writing.done() or now - self.saved >= STALL_SECONDS):
            self._wait()
        elif not self.slow and now - self.saved >= SLOW_SECONDS:
            self.slow = True
            reason = f"the checkpoint of step {self.saved_step} is not written after {now - self.saved:.0f} s"
            self._post({**self._where(module), "kind": "slow", "reason": reason}, trainer, module)

    def _where(self, module: ForecastModule) -> dict[str, Any]:
        return {
            "epoch": min(module.epochs_done + 1, module.plan.epochs),
            "epochs": module.plan.epochs,
            "step": module.steps_done,
            "steps": module.steps_done + module.total_steps - module.position,
        }

    def _step(self, trainer: pl.Trainer, module: ForecastModule, now: float) -> dict[str, Any]:
        """The report of a step; the rate is that since the last one, the time left counts validation in."""
        windows = (module.steps_done - self.reported_step) * module.world * module.plan.batch_size
        rate = windows / (now - self.reported)
        done = module.position - self.started_position
        self.reported, self.reported_step = now, module.steps_done
        return {
            **self._where(module),
            "kind": "step",
            "loss": module.last_loss,
            "validation_loss": module.metrics.get("validation_loss"),
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "samples_per_s": rate,
            "seconds_left": (module.total_steps - module.position) * (now - self.started) / done if done else None,
        }


def _write(store: CheckpointStore, tensors: Tensors, state: dict[str, Any], best: bool) -> None:
    """The best first: until the last is there too, the epoch counts as not yet ended and is ended again."""
    if best:
        average = {name: tensor for name, tensor in tensors.items() if name.startswith("average.")}
        store.write(BEST, average, state)
    store.write(LAST, tensors, state)


def _ours(module: pl.LightningModule) -> ForecastModule:
    if not isinstance(module, ForecastModule):
        raise TypeError(f"this callback is for ForecastModule, not {type(module).__name__}")
    return module
