"""The Lightning module: the network, its averaged copy, loss, optimizer."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fleetcast.errors import TrainingError
from fleetcast.model.loss import training_loss, window_loss
from fleetcast.model.network import Batch, ForecastNetwork
from fleetcast.training.plan import TrainPlan, check_parameters

WARM_UP = 0.05  # share of all steps
BETAS = (0.9, 0.98)


class ForecastModule(pl.LightningModule):
    """Trains `network`; `average` is the exponential moving average of its weights, which becomes the bundle.

    `weights` [target] puts the targets' losses on one scale: 1 is the loss of the untrained base.
    """

    def __init__(self, plan: TrainPlan, steps_per_epoch: int, weights: torch.Tensor) -> None:
        super().__init__()
        self.plan = plan
        self.network = ForecastNetwork(plan.network)
        check_parameters(plan.preset, self.network.parameter_count)
        averaging = get_ema_multi_avg_fn(plan.average_decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.network, multi_avg_fn=averaging)
        self.average.requires_grad_(False)
        self.weights: torch.Tensor
        self.register_buffer("weights", weights)
        self.total_steps = max(1, steps_per_epoch * plan.epochs)
        self.steps_done = 0
        self.epochs_done = 0
        self.last_loss = math.nan

    def training_step(self, batch: tuple[Batch, Batch], index: int) -> torch.Tensor:
        """One step's loss. Raises `TrainingError` when it is not finite."""
        inputs, truth = batch
        losses, known = window_loss(self.network(inputs), truth["truth"], inputs, self.plan.network.levels)
        loss = training_loss(losses, known, self.weights)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss became {loss.item()} at step {self.steps_done}: lower --learning-rate")
        self.last_loss = float(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count the step and average the weights, once there are enough steps for an average to mean something."""
        self.steps_done += 1
        if self.steps_done < 1 / (1 - self.plan.average_decay):
            self.average.module.load_state_dict(self.network.state_dict())
        else:
            self.average.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        """Clear the sums: the network's losses and those it is compared with, and the windows, each by target."""
        self._sums = torch.zeros(3, self.plan.network.targets, device=self.device)

    def validation_step(self, batch: tuple[Batch, Batch], index: int) -> None:
        """Add the averaged network's losses, and the untrained base's, to the sums."""
        inputs, truth = batch
        levels = self.plan.network.levels
        self.average.eval()
        losses, known = window_loss(self.average(inputs), truth["truth"], inputs, levels)
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
        optimizer = torch.optim.AdamW(self.network.parameters(), self.plan.learning_rate, BETAS, weight_decay=0.0)
        done = self.steps_done

        def factor(step: int) -> float:
            at = (done + step) / self.total_steps
            return min(at / WARM_UP, 1.0) * 0.5 * (1 + math.cos(math.pi * min(at, 1.0))) + 1e-3

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
