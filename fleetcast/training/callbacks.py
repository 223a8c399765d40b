"""Lightning callbacks of a worker: progress to the driver, checkpoints to Ray, resuming."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import ray.train
from ray.util.queue import Queue

from fleetcast.training.checkpoint import restore_optimizer, write_checkpoint
from fleetcast.training.module import ForecastModule
from fleetcast.windows.sampling import WindowLoader

REPORT_SECONDS = 1.0


class ProgressCallback(pl.Callback):
    """Rank 0 puts what is going on into the driver's queue, about once a second."""

    def __init__(self, queue: Queue | None, loader: WindowLoader) -> None:
        self.queue, self.loader = queue, loader
        self.started = time.monotonic()
        self.reported = 0.0
        self.samples = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the epoch its own draw of windows."""
        self.loader.epoch = _ours(pl_module).epochs_done

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the step."""
        module = _ours(pl_module)
        self.samples += len(batch[0]["center"]) * trainer.world_size
        now = time.monotonic()
        if self.queue is None or not trainer.is_global_zero or now - self.reported < REPORT_SECONDS:
            return
        self.reported = now
        self.queue.put(
            {
                "kind": "step",
                "epoch": module.epochs_done + 1,
                "epochs": module.plan.epochs,
                "step": module.steps_done,
                "steps": module.total_steps,
                "loss": module.last_loss,
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
                "samples_per_s": self.samples / (now - self.started),
            }
        )


class CheckpointCallback(pl.Callback):
    """After each epoch's validation every rank reports, rank 0 with a checkpoint."""

    def __init__(self, queue: Queue | None, resumed_from: Path | None) -> None:
        self.queue, self.resumed_from = queue, resumed_from

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the optimizer of a resumed run."""
        if self.resumed_from is not None:
            restore_optimizer(self.resumed_from, trainer.optimizers[0])

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write and report; Lightning's sanity check before training is left out."""
        if trainer.sanity_checking:
            return
        module = _ours(pl_module)
        module.epochs_done += 1
        losses = module.validation_losses()
        by_target = dict(zip(module.plan.window.targets, losses.tolist(), strict=True))
        metrics = {
            "epoch": module.epochs_done,
            "steps": module.steps_done,
            "train_loss": module.last_loss,
            "validation_loss": float(losses.mean()),
            "validation_by_target": by_target,
        }
        if not trainer.is_global_zero:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), module, metrics)
            name = f"epoch-{module.epochs_done:04d}"
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint(folder), checkpoint_dir_name=name)
        if self.queue is not None:
            self.queue.put({"kind": "epoch", "epochs": module.plan.epochs, **metrics})


def _ours(module: pl.LightningModule) -> ForecastModule:
    if not isinstance(module, ForecastModule):
        raise TypeError(f"these callbacks are for ForecastModule, not {type(module).__name__}")
    return module
