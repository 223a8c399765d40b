"""Fleets of 100 to 10,000 servers x 30 days through Ray Data, beside the same parts in plain processes.

`python -m benchmarks.simulate_scale [--quick]` prints a table and ends with one line of JSON: `ours` and `peer` are the
seconds of Ray and of as many plain processes for the largest fleet. Both sides have their workers warm. Ray's
side is `simulate_dataset`, with everything that the command writes; the plain side writes the parts alone. Rounds are
interleaved. `largest_worker_bytes` is the largest resident set of a Ray worker that was seen.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from multiprocessing.pool import Pool
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks._report import finish, is_quick
from fleetcast.dataset.storage import Storage
from fleetcast.runtime import connect, disconnect, prepare_environment
from fleetcast.settings import RaySettings
from fleetcast.simulate.shards import simulate_dataset, simulate_part
from fleetcast.simulate.spec import FleetSpec

SHARD = 25
LONGEST_OVERHEAD = 1.15
POLL_S = 0.2


class Watch:
    """The largest resident set of a Ray worker below this process, while it is entered."""

    def __init__(self) -> None:
        self.largest, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(POLL_S):
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.cmdline()[0].startswith("ray::"):
                        self.largest = max(self.largest, process.memory_info().rss)
                except (psutil.Error, IndexError):
                    continue


def main() -> None:
    quick = is_quick(__doc__)
    sizes, hours, rounds = ((50, 100), 24.0, 1) if quick else ((100, 1000, 10_000), 720.0, 3)
    cores = len(os.sched_getaffinity(0))
    prepare_environment(RaySettings())
    folder = Path(tempfile.mkdtemp(prefix="fleetcast-benchmark-"))
    try:
        with multiprocessing.get_context("spawn").Pool(cores) as pool, Watch() as watch:
            connect(RaySettings(num_cpus=cores), log_to_driver=False)
            seconds = measure(sizes, hours, rounds, pool, folder)
            disconnect()
    finally:
        shutil.rmtree(folder)
    finish(result(seconds, hours, rounds, cores, watch.largest), quick)


def measure(
    sizes: tuple[int, ...], hours: float, rounds: int, pool: Pool, folder: Path
) -> dict[int, dict[str, list[float]]]:
    """Seconds by size and side; the smallest fleet's first round warms both sides up."""
    seconds: dict[int, dict[str, list[float]]] = {size: {"ray": [], "plain": []} for size in sizes}
    for number in range(rounds + 1):
        for size in sizes if number else sizes[:1]:
            spec = FleetSpec(servers=size, hours=hours)
            timed = {"ray": with_ray(spec, folder / "ray"), "plain": plainly(spec, pool, folder / "plain")}
            for side, one in timed.items():
                if number:
                    seconds[size][side].append(one)
    return seconds


def with_ray(spec: FleetSpec, out: Path) -> float:
    begun = time.perf_counter()
    simulate_dataset(spec, out, shard_servers=SHARD, progress=False)
    taken = time.perf_counter() - begun
    shutil.rmtree(out)
    return taken


def plainly(spec: FleetSpec, pool: Pool, out: Path) -> float:
    begun = time.perf_counter()
    out.mkdir()
    tasks = [(spec, str(out), number) for number in range(-(-spec.servers // SHARD))]
    for _ in pool.imap_unordered(plain_part, tasks):
        pass
    taken = time.perf_counter() - begun
    shutil.rmtree(out)
    return taken


def plain_part(task: tuple[FleetSpec, str, int]) -> int:
    spec, out, number = task
    return simulate_part(spec, Storage(out), number, SHARD).part.rows


def result(
    seconds: dict[int, dict[str, list[float]]], hours: float, rounds: int, cores: int, largest: int
) -> dict[str, object]:
    medians = {size: {side: statistics.median(all_) for side, all_ in sides.items()} for size, sides in seconds.items()}
    table = Table("servers", "cells of the grid", "Ray, s", "plain, s", "Ray / plain", "Ray, rows/s")
    for size, sides in medians.items():
        cells = size * int(hours * 12)
        table.add_row(
            f"{size:,}", f"{cells:,}", f"{sides['ray']:.2f}", f"{sides['plain']:.2f}",
            f"{sides['ray'] / sides['plain']:.3f}", f"{cells / sides['ray']:,.0f}",
        )  # fmt: skip
    Console(width=120).print(table)
    most = max(medians)
    return {
        "benchmark": "simulate_scale",
        "ours": medians[most]["ray"],
        "peer": medians[most]["plain"],
        "peer_name": "the same parts in plain processes, without Ray",
        "ratio": medians[most]["ray"] / medians[most]["plain"],
        "unit": "s",
        "limit": {
            "ratio": {"at_most": LONGEST_OVERHEAD},
            "ours": {"at_most": 180.0},
            "largest_worker_bytes": {"at_most": 2 * 1024**3},
        },
        "threads": cores,
        "rounds": rounds,
        "spread": {side: [min(all_), max(all_)] for side, all_ in seconds[most].items()},
        "medians": {str(size): sides for size, sides in medians.items()},
        "largest_worker_bytes": largest,
    }


if __name__ == "__main__":
    main()
