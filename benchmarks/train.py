"""Samples a second of whole training steps through Lightning: our module beside pytorch-forecasting's `Trainer.fit`.

`python -m benchmarks.train [--quick]` ends with one line of JSON. Both train the 87,080-parameter reference network
(288 + 96 steps, dropout 0.15) on the same samples with the same batch size, one thread, in the same process, round by
round: data loading, forward, loss, backward, clipping, optimizer. The process keeps freed memory as a training worker
does, for both. Ours also keeps its averaged weights.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import pyarrow as pa
import torch

from benchmarks._report import finish, is_quick
from benchmarks._stock import METRICS, PRESET, SPEC, dataset_of, network_of, quiet, reference_config, samples
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.heap import keep_freed_memory
from fleetcast.training.module import ForecastModule
from fleetcast.training.plan import TrainPlan
from fleetcast.windows.arrays import arrays_from_table
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.sampling import WindowLoader, usable_windows

LEAST = 1.5
WARM_UP = 2  # steps before the clock starts


class Clock(pl.Callback):
    """Seconds from the end of the warm-up to the end of the last step, and the number of steps between."""

    def __init__(self) -> None:
        self.steps, self.begun, self.ended = 0, 0.0, 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        """Look at the clock."""
        self.ended = time.perf_counter()
        if self.steps == WARM_UP:
            self.begun = self.ended
        self.steps += 1

    @property
    def rate(self) -> float:
        """Steps a second."""
        return (self.steps - 1 - WARM_UP) / (self.ended - self.begun)


def main() -> None:
    quick = is_quick(__doc__)
    quiet()
    keep_freed_memory()
    batch, steps, rounds = (8, 5, 1) if quick else (PRESET.batch_size, 22, 5)
    frame = samples(4 if quick else 40, SPEC.context + SPEC.horizon + 64)
    sides = {"ours": ours(frame, batch), "peer": stock(frame, batch)}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):  # the first round warms up
        for name, (module, loader) in sides.items():
            clock = Clock()
            trainer(clock, steps).fit(module, loader)
            if number:
                speeds[name].append(batch * clock.rate)
    finish(result(speeds, rounds, batch), quick)


def trainer(clock: Clock, steps: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=1,
        limit_train_batches=steps,
        accelerator="cpu",
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )


def ours(frame: pd.DataFrame, batch: int) -> tuple[pl.LightningModule, Any]:
    table = pa.table(
        {
            "server": pa.array(frame["server"], pa.string()),
            "profile": pa.array(frame["profile"], pa.string()),
            "timestamp": pa.array(frame["timestamp"]).cast(TIMESTAMP),
            **{name: pa.array(frame[name]) for name in METRICS},
        }
    )
    fleet = arrays_from_table(table)
    windows = usable_windows(fleet, SPEC, SPEC.context - 1, fleet.steps - 1 - SPEC.horizon)
    loader = WindowLoader(WindowBatcher(fleet, SPEC, None), windows, batch, samples=len(windows))
    plan = TrainPlan(
        data="", fingerprint="", preset="reference", window=SPEC, network=reference_config(),
        start=fleet.time_at(0), validation_start=fleet.time_at(fleet.steps - 1), cutoff=fleet.time_at(fleet.steps - 1),
        timezone="UTC", epochs=1, samples_per_epoch=len(windows), batch_size=batch,
        learning_rate=PRESET.learning_rate, average_decay=PRESET.average_decay, seed=0,
    )  # fmt: skip
    module = ForecastModule(plan, len(loader), torch.ones(1))
    missing = module.use_kernels()
    if missing:
        raise AssertionError(f"the compiled kernels could not be made here: {missing}")
    return module, loader


def stock(frame: pd.DataFrame, batch: int) -> tuple[pl.LightningModule, Any]:
    dataset = dataset_of(frame)
    return network_of(dataset), dataset.to_dataloader(train=True, batch_size=batch, num_workers=0)


def result(speeds: dict[str, list[float]], rounds: int, batch: int) -> dict[str, object]:
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    return {
        "benchmark": "train",
        "ours": medians["ours"],
        "peer": medians["peer"],
        "peer_name": "pytorch-forecasting 1.8 with Lightning, the same network and batch size",
        "ratio": medians["ours"] / medians["peer"],
        "unit": "samples/s",
        "limit": {"ratio": {"at_least": LEAST}},
        "threads": 1,
        "rounds": rounds,
        "spread": {name: [min(found), max(found)] for name, found in speeds.items()},
        "batch_size": batch,
    }


if __name__ == "__main__":
    main()
