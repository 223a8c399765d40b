"""What each Ray Train worker runs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import ray.train
import torch
from ray.train.lightning import prepare_trainer
from ray.train.torch import get_device

from fleetcast.heap import keep_freed_memory
from fleetcast.model.loss import window_loss
from fleetcast.settings import Settings
from fleetcast.training.board import Board
from fleetcast.training.callbacks import RunCallback
from fleetcast.training.checkpoint import LAST, CheckpointStore, restore
from fleetcast.training.loaders import WEIGHT_WINDOWS, make_loaders
from fleetcast.training.module import ForecastModule
from fleetcast.training.plan import TrainPlan
from fleetcast.training.trainer import EpochBatches, trainer_arguments
from fleetcast.windows.sampling import WindowLoader


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
    training, validation = make_loaders(plan, rank, world, all_gather if world > 1 else None)
    module = ForecastModule(plan, len(training), base_weights(training, plan), world)
    missing = module.use_kernels() if Settings().forecast.compiled else ""
    if missing and rank == 0:
        board.post({"kind": "eager", "reason": missing})
    checkpoint = store.read(LAST)
    if checkpoint is not None:
        restore(checkpoint, module)
    if module.epochs_done < plan.epochs:
        keep_freed_memory()
        trainer = _trainer(plan, module, RunCallback(board, store, checkpoint[0] if checkpoint else None))
        trainer.fit(module, EpochBatches(training, module), validation)


def base_weights(loader: WindowLoader, plan: TrainPlan) -> torch.Tensor:
    """1 / the untrained base's mean loss by target, [target], so that targets of different size count alike.

    Without a base (the softplus head) all weights are 1. The same on every worker: each adds its part of the windows.
    """
    if plan.network.head != "floor":
        return torch.ones(plan.network.targets)
    drawn = loader.draw_of(WEIGHT_WINDOWS).positions(plan.seed)
    sums = torch.zeros(2, plan.network.targets)
    for first in range(0, len(drawn), plan.batch_size):
        inputs, truth = loader.batcher.batch(*loader.windows.at(drawn[first : first + plan.batch_size]))
        losses, known = window_loss(inputs["base"], truth["truth"], inputs, plan.network.levels)
        sums += torch.stack([(losses * known).sum(dim=0), known.sum(dim=0)])
    if torch.distributed.is_initialized():
        sums = sums.to(get_device())
        torch.distributed.all_reduce(sums)
    mean = sums[0] / sums[1].clamp_min(1)
    return 1 / mean.clamp_min(1e-4).cpu()


def all_gather(runs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows of all workers' tables, [row, column], in the order of the ranks."""
    device = get_device()
    size = torch.tensor([len(runs)], device=device)
    sizes = [torch.zeros_like(size) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(sizes, size)
    padded = torch.zeros((int(max(sizes)), runs.shape[1]), dtype=torch.int64, device=device)
    padded[: len(runs)] = torch.from_numpy(runs)
    tables = [torch.empty_like(padded) for _ in sizes]
    torch.distributed.all_gather(tables, padded)
    return np.concatenate([table[: int(rows)].cpu().numpy() for table, rows in zip(tables, sizes, strict=True)])


def _trainer(plan: TrainPlan, module: ForecastModule, *callbacks: pl.Callback) -> pl.Trainer:
    gpu = get_device().type == "cuda"
    trainer = pl.Trainer(**trainer_arguments(plan, plan.epochs - module.epochs_done, gpu, callbacks))
    prepared: pl.Trainer = prepare_trainer(trainer)
    return prepared
