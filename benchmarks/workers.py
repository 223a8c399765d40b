"""Training with two workers beside one: samples a second through Ray Train, one thread a worker, and the loss.

`python -m benchmarks.workers [--quick]` simulates a fleet and trains the reference network on it with one and with two
workers in turn; it ends with one line of JSON. Rates are medians of what the workers report about once a second.

`ceiling` is what the machine lets two workers reach at most: the same steps in two processes that know nothing of each
other and of Ray, beside one. What it lacks to 2 is lost to caches and memory that the cores share.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from benchmarks._report import finish, is_quick
from benchmarks._stock import quiet
from fleetcast.dataset.reader import Dataset
from fleetcast.heap import keep_freed_memory
from fleetcast.runtime import connect, disconnect
from fleetcast.settings import RaySettings
from fleetcast.simulate.shards import simulate_dataset
from fleetcast.simulate.spec import FleetSpec
from fleetcast.training.callbacks import RunCallback
from fleetcast.training.checkpoint import CheckpointStore
from fleetcast.training.loaders import make_loaders
from fleetcast.training.module import ForecastModule
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan, make_plan
from fleetcast.training.run import train
from fleetcast.training.trainer import EpochBatches, trainer_arguments

LEAST = 1.7
FIRST = 2  # reports of a run that are left out: its start


def main() -> None:
    quick = is_quick(__doc__)
    preset, samples, rounds = ("tiny", 2048, 1) if quick else ("reference", 8192, 2)
    rates: dict[int, list[float]] = {1: [], 2: []}
    alone: dict[int, list[float]] = {1: [], 2: []}
    losses: dict[int, list[float]] = {1: [], 2: []}
    with fleet(hours=120 if quick else 336) as folder:
        for number in range(rounds):
            for workers in (1, 2):
                reports: list[dict[str, Any]] = []
                options = TrainOptions(
                    data=str(folder / "data"), models=str(folder), run=f"run-{number}-{workers}", preset=preset,
                    workers=workers, epochs=1, samples_per_epoch=samples, seed=number,
                )  # fmt: skip
                train(options, reports.append)
                rates[workers].append(rate_of(reports))
                losses[workers] += [report["validation_loss"] for report in reports if report["kind"] == "epoch"]
                plan = make_plan(options, Dataset.open(options.data).manifest)
                alone[workers].append(rate_alone(plan, workers, folder / f"alone-{number}-{workers}"))
    finish(result(rates, alone, losses, rounds), quick)


def rate_of(reports: list[dict[str, Any]]) -> float:
    """Samples a second: the median of the reports."""
    found = [report["samples_per_s"] for report in reports if report["kind"] == "step"]
    return statistics.median(found[FIRST:] or found)


def rate_alone(plan: TrainPlan, processes: int, folder: Path) -> float:
    """Samples a second of so many trainings at once that share nothing, added up."""
    context = multiprocessing.get_context("spawn")
    answers, begin = context.SimpleQueue(), context.Barrier(processes)
    started = [
        context.Process(target=train_alone, args=(plan.model_dump_json(), str(folder / str(number)), begin, answers))
        for number in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a training by itself ended with code {process.exitcode}")
    return sum(answers.get() for _ in started)


def train_alone(written: str, folder: str, begin: Any, answers: Any) -> None:
    """What a worker does, by itself."""
    quiet()
    plan, store, board = TrainPlan.model_validate_json(written), CheckpointStore(folder), Notes()
    store.clear()
    training, validation = make_loaders(plan, 0, 1)
    module = ForecastModule(plan, len(training), torch.ones(plan.network.targets))
    module.use_kernels()
    keep_freed_memory()
    arguments = {**trainer_arguments(plan, plan.epochs, False, [RunCallback(board, store, None)]), "strategy": "auto"}
    trainer = pl.Trainer(**{**arguments, "plugins": None})
    begin.wait(timeout=300)
    trainer.fit(module, EpochBatches(training, module), validation)
    answers.put(rate_of(board.messages))


class Notes:
    """A board in this process."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def post(self, message: dict[str, Any]) -> bool:
        """Keep the message; nobody orders to stop."""
        self.messages.append(message)
        return False


@contextmanager
def fleet(hours: float) -> Iterator[Path]:
    """A folder with a dataset of 40 servers, and Ray with two cores."""
    with tempfile.TemporaryDirectory(prefix="fleetcast-benchmark-") as folder:
        connect(RaySettings(num_cpus=2), log_to_driver=False)
        simulate_dataset(FleetSpec(servers=40, hours=hours, seed=7), Path(folder) / "data", progress=False)
        try:
            yield Path(folder)
        finally:
            disconnect()


def result(
    rates: dict[int, list[float]], alone: dict[int, list[float]], losses: dict[int, list[float]], rounds: int
) -> dict[str, object]:
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    return {
        "benchmark": "workers",
        "ours": two,
        "peer": one,
        "peer_name": "the same training with one worker",
        "ratio": two / one,
        "ceiling": statistics.median(alone[2]) / statistics.median(alone[1]),
        "alone": {"one": alone[1], "two": alone[2]},
        "unit": "samples/s",
        "limit": {"ratio": {"at_least": LEAST}},
        "threads": 1,
        "rounds": rounds,
        "spread": {"ours": [min(rates[2]), max(rates[2])], "peer": [min(rates[1]), max(rates[1])]},
        "validation_loss": {"one": losses[1], "two": losses[2]},
    }


if __name__ == "__main__":
    main()
