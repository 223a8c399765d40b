"""The Lightning module: the network, its averaged copy, loss, optimizer."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from fleetcast.errors import TrainingError
from fleetcast.model.loss import training_loss, window_loss
from fleetcast.model.native.compiler import CompileError
from fleetcast.model.network import Batch, ForecastNetwork
from fleetcast.settings import Settings
from fleetcast.training.plan import TrainPlan, check_parameters

WARM_UP = 0.05  # share of all steps
BETAS = (0.9, 0.98)


class ForecastModule(pl.LightningModule):
    """Trains `network`; `average` is the exponential moving average of its weights, which becomes the bundle.

    `weights` [target] puts the targets' losses on one scale: 1 is the loss of the untrained base. `world` is the number
    of workers, each of which does `steps_per_epoch`. `epochs_done` and `batches_done` (of this worker, in this epoch)
    say where the training is; `steps_done` counts optimizer steps, also those of other numbers of workers.
    """

    def __init__(self, plan: TrainPlan, steps_per_epoch: int, weights: torch.Tensor, world: int = 1) -> None:
        super().__init__()
        self.plan, self.steps_per_epoch, self.world = plan, steps_per_epoch, world
        self.network = ForecastNetwork(plan.network)
        check_parameters(plan.preset, self.network.parameter_count)
        self.average = deepcopy(self.network).requires_grad_(False)
        self._trained: list[torch.Tensor] = list(self.network.parameters())
        self._averaged: list[torch.Tensor] = list(self.average.parameters())
        self.weights: torch.Tensor
        self.register_buffer("weights", weights)
        self.total_steps = max(1, steps_per_epoch * plan.epochs)
        self.steps_done = self.epochs_done = self.batches_done = 0
        self.last_loss = math.nan
        self.epoch_losses: list[float] = [0.0, 0.0]  # sum and count of this epoch's training losses
        self.metrics: dict[str, Any] = {}  # of the last epoch
        self.best_loss: float | None = None

    @property
    def position(self) -> int:
        """Steps from the start of the training to here, at this number of workers."""
        return self.epochs_done * self.steps_per_epoch + self.batches_done

    def progress(self) -> dict[str, Any]:
        """Where the training is, as plain data for `resume`."""
        return {
            "steps_done": self.steps_done,
            "epochs_done": self.epochs_done,
            "batches_done": self.batches_done,
            "cut": [self.world, self.plan.batch_size],
            "epoch_losses": self.epoch_losses,
            "metrics": self.metrics,
            "best_loss": self.best_loss,
        }

    def resume(self, progress: dict[str, Any]) -> None:
        """Go to where another module's `progress` was.

        With the same number of workers and batch size that is behind the last batch. Else an epoch is cut into other
        batches, and the one that was under way begins anew.
        """
        self.steps_done, self.epochs_done = progress["steps_done"], progress["epochs_done"]
        same = progress["cut"] == [self.world, self.plan.batch_size]
        last = max(0, self.steps_per_epoch - 1)  # validation follows on a step
        self.batches_done = min(progress["batches_done"], last) if same else 0
        self.epoch_losses = list(progress["epoch_losses"])
        self.metrics, self.best_loss = progress["metrics"], progress["best_loss"]

    def end_epoch(self) -> bool:
        """Count the epoch after its validation and fill `metrics`; True when it is the best one so far."""
        losses = self.validation_losses()
        validation = float(losses.mean())
        self.epochs_done, self.batches_done = self.epochs_done + 1, 0
        self.metrics = {
            "epoch": self.epochs_done,
            "step": self.steps_done,
            "train_loss": self.epoch_losses[0] / max(1.0, self.epoch_losses[1]),
            "validation_loss": validation,
            "validation_by_target": dict(zip(self.plan.window.targets, losses.tolist(), strict=True)),
        }
        self.epoch_losses = [0.0, 0.0]
        best = self.best_loss is None or validation < self.best_loss
        if best:
            self.best_loss = validation
        return best

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Draw dropout from seed, step and worker alone, so that a resumed training draws what an unbroken one does."""
        if self.plan.network.dropout:
            words = np.random.SeedSequence((self.plan.seed, self.steps_done, self.global_rank)).generate_state(2)
            torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)

    def use_kernels(self) -> str:
        """Train with compiled functions on a processor in float32; returns why not, empty when they are used."""
        try:
            self.network.transformer.use_kernels(Settings().forecast.kernels)
        except CompileError as error:
            return str(error)
        self.average.transformer.kernels = self.network.transformer.kernels
        return ""

    def training_step(self, batch: tuple[Batch, Batch], index: int) -> torch.Tensor:
        """One step's loss. Raises `TrainingError` when it is not finite."""
        inputs, truth = batch
        losses, known = window_loss(self.network(inputs).float(), truth["truth"], inputs, self.plan.network.levels)
        loss = training_loss(losses, known, self.weights)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} at step {self.steps_done}: run the same command with a lower "
                f"--learning-rate than {self.plan.learning_rate:g}; it goes on from the last checkpoint"
            )
        self.last_loss = float(loss.detach())
        self.epoch_losses = [self.epoch_losses[0] + self.last_loss, self.epoch_losses[1] + 1]
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step and average the weights, once there are enough steps for an average to mean something."""
        self.steps_done, self.batches_done = self.steps_done + 1, self.batches_done + 1
        share = 1 - self.plan.average_decay if self._averages() else 1.0
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._trained, share)

    def _averages(self) -> bool:
        return self.steps_done >= 1 / (1 - self.plan.average_decay)

    def on_validation_epoch_start(self) -> None:
        """Clear the sums: the network's losses and those it is compared with, and the windows, each by target."""
        self._sums = torch.zeros(3, self.plan.network.targets, device=self.device)

    def validation_step(self, batch: tuple[Batch, Batch], index: int) -> None:
        """Add the averaged network's losses, and the untrained base's, to the sums."""
        inputs, truth = batch
        levels = self.plan.network.levels
        self.average.eval()
        losses, known = window_loss(self.average(inputs).float(), truth["truth"], inputs, levels)
        self._sums[0] += (losses * known).sum(dim=0)
        self._sums[2] += known.sum(dim=0)
        if "base" in inputs:
            base, _ = window_loss(inputs["base"], truth["truth"], inputs, levels)
            self._sums[1] += (base * known).sum(dim=0)

    def validation_losses(self) -> torch.Tensor:
        """Loss by target over all workers' validation windows, shape [target].

        As a ratio to the untrained base's where there is one, else the mean pinball loss in window scales.
        """
        sums = self._sums.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        peer = sums[1] if self.plan.network.head == "floor" else sums[2]
        losses: torch.Tensor = sums[0] / peer.clamp_min(1e-9)
        return losses

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and a cosine decay over the whole training, also when it is resumed."""
        fused = self.plan.precision == "32-true"  # in mixed precision Lightning clips no gradients of a fused one
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.plan.learning_rate, BETAS, weight_decay=0.0, fused=fused
        )
        done = self.position

        def factor(step: int) -> float:
            at = (done + step) / self.total_steps
            return min(at / WARM_UP, 1.0) * 0.5 * (1 + math.cos(math.pi * min(at, 1.0))) + 1e-3

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
