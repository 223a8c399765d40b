"""What Lightning is asked for, and how an epoch reaches it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

from fleetcast.model.network import Batch
from fleetcast.training.module import ForecastModule
from fleetcast.training.plan import TrainPlan
from fleetcast.windows.sampling import WindowLoader


def trainer_arguments(plan: TrainPlan, epochs: int, gpu: bool, callbacks: Sequence[pl.Callback]) -> dict[str, Any]:
    """Arguments of Lightning's `Trainer` in a Ray Train worker that trains `epochs` more.

    The same for any number of workers: how many there are, and which of a node's GPUs is this worker's, the strategy
    and the environment ask Ray.
    """
    # All workers hold the same buffers.
    strategy = RayDDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)  # type: ignore[no-untyped-call]
    return {
        "max_epochs": epochs,
        "accelerator": "gpu" if gpu else "cpu",
        "devices": "auto" if gpu else 1,
        "strategy": strategy,
        "plugins": [RayLightningEnvironment()],  # type: ignore[no-untyped-call]
        "precision": plan.precision,
        "callbacks": list(callbacks),
        "gradient_clip_val": 1.0,
        "reload_dataloaders_every_n_epochs": 1,  # the first epoch of a resumed run is shorter
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }


class EpochBatches:
    """The batches of the epoch that the module is in, without those it has done."""

    def __init__(self, loader: WindowLoader, module: ForecastModule) -> None:
        self.loader, self.module = loader, module

    def __len__(self) -> int:
        return self.module.steps_per_epoch - self.module.batches_done

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        self.loader.epoch, self.loader.skip_batches = self.module.epochs_done, self.module.batches_done
        yield from self.loader
