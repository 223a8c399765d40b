"""The loader of a training alone: windows drawn from a dataset on disk, ready as tensors.

`python -m benchmarks.loader [--quick]` simulates a fleet of 30 days with Ray Data and ends with one line of JSON;
figures are windows a second, epochs of drawn windows after the samples were kept. `ours` is the `reference` preset and
`default` the default one with its floor and day lags, one thread each; `default_2_threads` is the default one with two
loader threads, which is what a training on a GPU has, and `default_2_workers` what the loaders of a training with two
workers give together, each in a process of its own with one thread. The peer is the data loader of
pytorch-forecasting's `TimeSeriesDataSet` on a few of the same servers, one thread, interleaved round by round.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks._report import finish, is_quick
from benchmarks._stock import dataset_of
from benchmarks.accuracy.__main__ import small_fleet
from fleetcast.dataset.reader import Dataset
from fleetcast.heap import keep_freed_memory
from fleetcast.settings import RaySettings
from fleetcast.simulate.shards import simulate_dataset
from fleetcast.simulate.spec import FleetSpec
from fleetcast.training.loaders import make_loaders
from fleetcast.training.options import GPU_LOADERS, TrainOptions
from fleetcast.training.plan import make_plan
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.sampling import WindowLoader
from fleetcast.windows.spec import PLAIN_CALENDAR

LIMIT = 20_000
LOADERS = {"ours": ("reference", 0), "default": ("default", 0), "default_2_threads": ("default", GPU_LOADERS)}
WORKERS, SHARED = 2, "default_2_workers"


def main() -> None:
    quick = is_quick(__doc__)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    servers, hours, samples, rounds, peers = (7, 240, 256, 1, 1) if quick else (300, 720, 16_384, 5, 8)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        if quick:
            small_fleet(data, hours)
        else:
            spec = FleetSpec(servers=servers, hours=hours, seed=7)
            simulate_dataset(spec, data, progress=False, ray_settings=RaySettings(num_cpus=2))
        loaders: dict[str, Any] = {
            name: loader_of(data, preset, samples, threads) for name, (preset, threads) in LOADERS.items()
        }
        loaders["peer"] = peer_of(data, peers)
        speeds: dict[str, list[float]] = {name: [] for name in loaders}
        for number in range(rounds + 1):  # the first warms up
            for name, loader in loaders.items():
                loader.epoch = number
                speeds[name].append(windows_per_second(loader))
        speeds[SHARED] = of_workers(data, samples, rounds + 1)
    found = {name: statistics.median(speed[1:]) for name, speed in speeds.items()}
    result = {
        "benchmark": "loader",
        **found,
        "peer_name": "pytorch-forecasting TimeSeriesDataSet's data loader",
        "ratio": found["ours"] / found["peer"],
        "default_ratio": found["default"] / found["peer"],
        "unit": "windows/s",
        "limit": {name: {"at_least": LIMIT} for name in ("ours", "default")},
        "threads": 1,
        "rounds": rounds,
        "spread": {name: [min(speed[1:]), max(speed[1:])] for name, speed in speeds.items()},
        "servers": servers,
        "windows": {name: len(loader.windows) for name, loader in loaders.items() if name != "peer"},
    }
    finish(result, quick)


def loader_of(data: Path, preset: str, samples: int, threads: int, rank: int = 0, world: int = 1) -> WindowLoader:
    """The loader that one of so many training workers has."""
    options = TrainOptions(data=str(data), models="", preset=preset, samples_per_epoch=samples, loader_threads=threads)
    training, _ = make_loaders(make_plan(options, Dataset.open(data).manifest), rank, world)
    return training


def of_workers(data: Path, samples: int, rounds: int) -> list[float]:
    """Windows a second of all workers together, by round; they wait for each other before each."""
    context = multiprocessing.get_context("spawn")
    answers, begin = context.SimpleQueue(), context.Barrier(WORKERS)
    started = [
        context.Process(target=worker, args=(data, samples, rounds, rank, begin, answers)) for rank in range(WORKERS)
    ]
    for process in started:
        process.start()
    found = [answers.get() for _ in started]
    for process in started:
        process.join()
    return [sum(rates) for rates in zip(*found, strict=True)]


def worker(data: Path, samples: int, rounds: int, rank: int, begin: Any, answers: Any) -> None:
    """One worker's windows a second by round, into `answers`."""
    torch.set_num_threads(1)
    keep_freed_memory()
    loader, rates = loader_of(data, "default", samples, 0, rank, WORKERS), []
    for number in range(rounds):
        loader.epoch = number
        begin.wait()
        rates.append(windows_per_second(loader))
    answers.put(rates)


def peer_of(data: Path, servers: int) -> Any:
    """The peer's loader on some servers, for the reference network's variables."""
    dataset = Dataset.open(data)
    plan = make_plan(TrainOptions(data=str(data), models="", preset="reference"), dataset.manifest)
    window, seconds = plan.window, int(plan.start.timestamp())
    frame = dataset.read(dataset.manifest.parts[0], ["server", "profile", "timestamp", *window.features]).to_pandas()
    frame = frame[frame["server"].isin(dataset.manifest.servers[:servers])].dropna()
    times = frame["timestamp"].astype("datetime64[s, UTC]").astype("int64").to_numpy()
    calendar = calendar_features(times, plan.timezone, PLAIN_CALENDAR)
    frame = frame.assign(time_idx=(times - seconds) // 300, state="healthy")
    frame = frame.assign(**{name: calendar[:, number] for number, name in enumerate(PLAIN_CALENDAR)})
    made = dataset_of(pd.DataFrame(frame), allow_missing_timesteps=True)
    return Limited(made.to_dataloader(train=True, batch_size=plan.batch_size, num_workers=0))


class Limited:
    """The first batches of the peer's epoch, which is longer than a round needs to be."""

    def __init__(self, loader: Iterable[Any], batches: int = 64) -> None:
        self.loader, self.batches, self.epoch = loader, batches, 0

    def __iter__(self) -> Any:
        for _, batch in zip(range(self.batches), self.loader, strict=False):
            inputs, truth = batch
            yield {"center": inputs["encoder_cont"]}, truth


def windows_per_second(loader: Iterable[Any]) -> float:
    begun = time.perf_counter()
    made = sum(len(inputs["center"]) for inputs, _ in loader)
    return made / (time.perf_counter() - begun)


if __name__ == "__main__":
    main()
