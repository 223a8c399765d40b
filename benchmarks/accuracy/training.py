"""Training in this process: the same windows, module and Lightning loop as `fleetcast train`, without Ray."""

from __future__ import annotations

import logging
import warnings
from datetime import UTC, datetime
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.accuracy.variants import Variant
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import BundleManifest
from fleetcast.training.checkpoint import AVERAGE, part, snapshot
from fleetcast.training.loaders import make_loaders
from fleetcast.training.module import ForecastModule
from fleetcast.training.plan import TrainPlan
from fleetcast.training.trainer import EpochBatches, trainer_arguments
from fleetcast.training.worker import base_weights
from fleetcast.windows.sampling import Batcher
from fleetcast.windows.tensors import Batch

Ints = npt.NDArray[np.int64]
MEMBER_SEEDS = 1000  # between the seeds of a variant's members


def train_members(plan: TrainPlan, variant: Variant) -> list[Bundle]:
    """The variant's models: one, or several whose seeds are apart from those of any other run."""
    plan = variant.apply(plan)
    seeds = [plan.seed + MEMBER_SEEDS * member for member in range(variant.members)]
    return [train_one(plan.model_copy(update={"seed": seed}), variant) for seed in seeds]


def train_one(plan: TrainPlan, variant: Variant) -> Bundle:
    """Train one model on one thread, as a bundle in memory. Raises `TrainingError`."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    pl.seed_everything(plan.seed, verbose=False)
    training, validation = make_loaders(plan, 0, 1)
    if variant.loss == "original":
        training.batcher = OriginalUnits(training.batcher)
        validation.batches = [(in_original_units(inputs), truth) for inputs, truth in validation.batches]
    module = ForecastModule(plan, len(training), base_weights(training, plan))
    module.use_kernels()
    keeper = EpochKeeper(variant.keep == "best")
    ray_apart = {"strategy": "auto", "plugins": None, "enable_model_summary": False}
    trainer = pl.Trainer(**{**trainer_arguments(plan, plan.epochs, False, [keeper]), **ray_apart})
    trainer.fit(module, EpochBatches(training, module), validation)
    return Bundle(_manifest(plan, module), keeper.weights)


class EpochKeeper(pl.Callback):
    """Counts the epochs and keeps the averaged weights of the best one, or of the last."""

    def __init__(self, best: bool) -> None:
        self.best, self.weights = best, dict[str, torch.Tensor]()

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a copy where it counts."""
        assert isinstance(pl_module, ForecastModule)
        if pl_module.end_epoch() or not self.best:
            self.weights = part(snapshot(pl_module, trainer.optimizers[0])[0], AVERAGE)


class OriginalUnits:
    """A batcher whose windows have no scale of their own in the loss: loud servers count for more."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher

    def batch(self, rows: Ints, ends: Ints) -> tuple[Batch, Batch]:
        """As `Batcher`."""
        inputs, truth = self.batcher.batch(rows, ends)
        return in_original_units(inputs), truth

    def expect(self, rows: Ints, ends: Ints) -> None:
        """As `Batcher`."""
        self.batcher.expect(rows, ends)


def in_original_units(inputs: Batch) -> Batch:
    """Inputs of which each window's loss is in the metric's unit."""
    return {**inputs, "loss_scale": torch.ones_like(inputs["loss_scale"])}


def _manifest(plan: TrainPlan, module: ForecastModule) -> BundleManifest:
    window = plan.window
    training: dict[str, Any] = {"seed": plan.seed, "best_loss": module.best_loss}
    return BundleManifest(
        run=f"seed-{plan.seed}",
        created=datetime.now(UTC),
        preset=plan.preset,
        targets=window.targets,
        features=window.features,
        levels=window.levels,
        context=window.context,
        horizon=window.horizon,
        window=window.model_dump(mode="json"),
        network=plan.network,
        cutoff=plan.cutoff,
        timezone=plan.timezone,
        parameters=module.network.parameter_count,
        data_fingerprint=plan.fingerprint,
        training=training,
    )
