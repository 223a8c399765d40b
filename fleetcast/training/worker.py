"""What each Ray Train worker runs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import numpy as np
import ray.train
import torch
from ray.train.lightning import prepare_trainer
from ray.train.torch import get_device

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import TrainingError
from fleetcast.model.base import ResidualBase
from fleetcast.model.loss import window_loss
from fleetcast.settings import Settings
from fleetcast.training.board import Board
from fleetcast.training.callbacks import RunCallback
from fleetcast.training.checkpoint import LAST, CheckpointStore, restore
from fleetcast.training.module import ForecastModule
from fleetcast.training.plan import TrainPlan
from fleetcast.training.trainer import EpochBatches, trainer_arguments
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.sampling import WindowLoader, usable_windows

VALIDATION_WINDOWS = 1024
WEIGHT_WINDOWS = 512


def train_worker(config: dict[str, Any]) -> None:
    """Train on this worker's share of the windows, from the last checkpoint on when there is one.

    `config` holds the plan as JSON, the driver's board and the place of the checkpoints.
    """
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    plan = TrainPlan.model_validate_json(config["plan"])
    board: Board = config["board"]
    store = CheckpointStore(config["checkpoints"])
    pl.seed_everything(plan.seed, verbose=False)
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    if rank == 0:
        board.post({"kind": "workers", "workers": world})
    training, validation = make_loaders(plan, rank, world)
    module = ForecastModule(plan, len(training), base_weights(training, plan), world)
    if Settings().forecast.compiled:
        module.use_kernels()
    checkpoint = store.read(LAST)
    if checkpoint is not None:
        restore(checkpoint, module)
    if module.epochs_done < plan.epochs:
        trainer = _trainer(plan, module, RunCallback(board, store, checkpoint[0] if checkpoint else None))
        trainer.fit(module, EpochBatches(training, module), validation)


def make_loaders(plan: TrainPlan, rank: int, world: int) -> tuple[WindowLoader, WindowLoader]:
    """Loaders of the training and the validation part for one worker.

    No training window reaches into the validation part, no validation window beyond the cutoff.
    """
    fleet = arrays_from_dataset(Dataset.open(plan.data))
    fleet = fleet.until(fleet.index_of(plan.cutoff))
    batcher = WindowBatcher(fleet, plan.window, _base(fleet, plan))
    border, horizon = fleet.index_of(plan.validation_start), plan.window.horizon
    training = usable_windows(fleet, plan.window, plan.window.context - 1, border - horizon)
    validation = usable_windows(fleet, plan.window, border, fleet.steps - 1 - horizon)
    if len(training[0]) < world or len(validation[0]) < world:
        raise TrainingError(
            f"{len(training[0])} usable training and {len(validation[0])} validation windows for {world} workers: too "
            "many samples are missing before the cutoff"
        )
    picks = np.linspace(0, len(validation[0]) - 1, min(VALIDATION_WINDOWS, len(validation[0]))).astype(np.int64)
    chosen = (validation[0][picks], validation[1][picks])
    return (
        WindowLoader(batcher, training, plan.batch_size, rank, world, plan.samples_per_epoch, plan.seed),
        WindowLoader(batcher, chosen, plan.batch_size, rank, world),
    )


def base_weights(loader: WindowLoader, plan: TrainPlan) -> torch.Tensor:
    """1 / the untrained base's mean loss by target, [target], so that targets of different size count alike.

    Without a base (the softplus head) all weights are 1. The same on every worker.
    """
    if plan.network.head != "floor":
        return torch.ones(plan.network.targets)
    total = len(loader.windows[0])
    picks = np.random.default_rng(plan.seed).choice(total, min(WEIGHT_WINDOWS, total), replace=False)
    rows, ends = loader.windows[0][picks], loader.windows[1][picks]
    inputs, truth = loader.batcher.inputs(rows, ends), loader.batcher.truth(rows, ends)
    losses, known = window_loss(inputs["base"], truth, inputs, plan.network.levels)
    mean = (losses * known).sum(dim=0) / known.sum(dim=0).clamp_min(1)
    return 1 / mean.clamp_min(1e-4)


def _base(fleet: FleetArrays, plan: TrainPlan) -> ResidualBase | None:
    if plan.network.head != "floor":
        return None
    return ResidualBase(fleet.select(plan.window.targets), fleet.start, plan.window.horizon, plan.window.levels)


def _trainer(plan: TrainPlan, module: ForecastModule, *callbacks: pl.Callback) -> pl.Trainer:
    gpu = get_device().type == "cuda"
    trainer = pl.Trainer(**trainer_arguments(plan, plan.epochs - module.epochs_done, gpu, callbacks))
    prepared: pl.Trainer = prepare_trainer(trainer)
    return prepared
