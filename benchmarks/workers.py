"""Training with two workers beside one: samples a second through Ray Train, one thread a worker, and the loss.

`python -m benchmarks.workers [--quick]` simulates a fleet and trains the reference network on it with one and with two
workers in turn; it ends with one line of JSON. Rates are medians of what the workers report about once a second.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks._report import finish, is_quick
from fleetcast.runtime import connect, disconnect
from fleetcast.settings import RaySettings
from fleetcast.simulate.shards import simulate_dataset
from fleetcast.simulate.spec import FleetSpec
from fleetcast.training.options import TrainOptions
from fleetcast.training.run import train

LEAST = 1.7
FIRST = 2  # reports of a run that are left out: its start


def main() -> None:
    quick = is_quick(__doc__)
    preset, samples, rounds = ("tiny", 2048, 1) if quick else ("reference", 8192, 2)
    rates: dict[int, list[float]] = {1: [], 2: []}
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
                found = [report["samples_per_s"] for report in reports if report["kind"] == "step"]
                rates[workers].append(statistics.median(found[FIRST:] or found))
                losses[workers] += [report["validation_loss"] for report in reports if report["kind"] == "epoch"]
    finish(result(rates, losses, rounds), quick)


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


def result(rates: dict[int, list[float]], losses: dict[int, list[float]], rounds: int) -> dict[str, object]:
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    return {
        "benchmark": "workers",
        "ours": two,
        "peer": one,
        "peer_name": "the same training with one worker",
        "ratio": two / one,
        "unit": "samples/s",
        "limit": {"ratio": {"at_least": LEAST}},
        "threads": 1,
        "rounds": rounds,
        "spread": {"ours": [min(rates[2]), max(rates[2])], "peer": [min(rates[1]), max(rates[1])]},
        "validation_loss": {"one": losses[1], "two": losses[2]},
    }


if __name__ == "__main__":
    main()
