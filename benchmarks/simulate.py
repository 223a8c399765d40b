"""From nothing to Parquet on one core: our simulator beside the write alone, the random numbers alone, and mockseries.

`python -m benchmarks.simulate [--quick]` ends with one line of JSON; figures are rows (14 metrics) a second. Each round
runs all four, pinned to one core. Ours is what a worker of `fleetcast simulate` does for each part: simulate, encode,
digest, write, flush to disk. The write alone is the same writer (encode, flush to disk) on tables that are in memory;
`encode_only` leaves the disk out. mockseries (an environment of its own, `make peers`) makes the same number of values
and writes nothing.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks._report import finish, is_quick
from fleetcast.compiling import compiled_and_kept
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.dataset.storage import Storage, parquet_buffer
from fleetcast.simulate.randomness import BLOCK, fill_normals, fill_words
from fleetcast.simulate.shards import simulate_part
from fleetcast.simulate.simulator import simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World

SHARD = 25
PEERS = Path(sys.prefix) / "peers" / "bin" / "python"
PEER_SCRIPT = Path(__file__).parent / "peers" / "mockseries_values.py"
LEAST_ROWS, LEAST_SHARE = 1.5e6, 0.55


def main() -> None:
    quick = is_quick(__doc__)
    if not PEERS.exists():
        sys.exit(f"the peer is missing: `make peers` installs mockseries in {PEERS.parents[1]}")
    spec, rounds = (FleetSpec(servers=50, hours=48), 1) if quick else (FleetSpec(servers=200, hours=720), 7)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    folder = Path(tempfile.mkdtemp(prefix="fleetcast-benchmark-"))
    try:
        result = measure(spec, rounds, folder)
    finally:
        shutil.rmtree(folder)
    finish(result, quick)


def measure(spec: FleetSpec, rounds: int, folder: Path) -> dict[str, object]:
    tables = [simulate_arrays(World(spec), shard(spec, number))[0].encoded() for number in range(shards(spec))]
    rows = sum(table.num_rows for table in tables)
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: simulated(spec, folder / "ours"),
        "write_only": lambda: written(tables, folder / "write"),
        "encode_only": lambda: [parquet_buffer(table) for table in tables],
        "random_only": lambda: random_numbers(spec.seed, spec.servers, spec.steps),
        "peer": lambda: None,
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):  # the first one warms up
        for name, run in sides.items():
            rate = rows / (peer_seconds(spec) if name == "peer" else seconds(run))
            if number:
                rates[name].append(rate)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    shares = [ours / write for ours, write in zip(rates["ours"], rates["write_only"], strict=True)]
    return {
        "benchmark": "simulate",
        "ours": medians["ours"],
        "peer": medians["peer"],
        "peer_name": "mockseries 0.3.1, the same number of values, nothing written",
        "ratio": medians["ours"] / medians["peer"],
        "unit": "rows/s/core",
        "limit": {"ours": {"at_least": LEAST_ROWS}, "share_of_write_only": {"at_least": LEAST_SHARE}},
        "threads": 1,
        "rounds": rounds,
        "spread": {name: [min(found), max(found)] for name, found in rates.items()},
        "write_only": medians["write_only"],
        "encode_only": medians["encode_only"],
        "random_only": medians["random_only"],
        "share_of_write_only": statistics.median(shares),
        "share_of_encode_only": medians["ours"] / medians["encode_only"],
        "rows": rows,
        "metrics": len(METRIC_NAMES),
        "bytes_per_row": sum(parquet_buffer(table).size for table in tables) / rows,
    }


def shards(spec: FleetSpec) -> int:
    return -(-spec.servers // SHARD)


def shard(spec: FleetSpec, number: int) -> range:
    return range(number * SHARD, min((number + 1) * SHARD, spec.servers))


def simulated(spec: FleetSpec, folder: Path) -> None:
    storage = fresh(folder)
    for number in range(shards(spec)):
        simulate_part(spec, storage, number, SHARD)


def written(tables: list[pa.Table], folder: Path) -> None:
    storage = fresh(folder)
    for number, table in enumerate(tables):
        storage.write_bytes(f"{number}.parquet", parquet_buffer(table))


def fresh(folder: Path) -> Storage:
    shutil.rmtree(folder, ignore_errors=True)
    storage = Storage(folder)
    storage.create()
    return storage


@compiled_and_kept
def random_numbers(seed: int, servers: int, steps: int) -> float:
    """The normal and uniform numbers of a fleet: twenty words a server and step."""
    words, normals, total = np.empty(20 * BLOCK, np.uint32), np.zeros(20 * BLOCK, np.float32), 0.0
    for server in range(servers):
        for first in range(0, steps, BLOCK):
            count = min(BLOCK, steps - first)
            for call in range(5):
                fill_words(words, 4 * call, first, count, server, call, 0, seed)
            for pair in range(7):
                fill_normals(words, normals, 2 * pair, count)
            total += normals[0]
    return total


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def peer_seconds(spec: FleetSpec) -> float:
    """For as many values, from a tenth of the series: its time grows in proportion."""
    series = max(1, spec.servers * len(METRIC_NAMES) // 10)
    command = [str(PEERS), str(PEER_SCRIPT), str(spec.steps), str(series)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout) * spec.servers * len(METRIC_NAMES) / series


if __name__ == "__main__":
    main()
