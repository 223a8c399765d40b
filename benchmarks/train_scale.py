"""Memory of a training on 10,000 servers x 30 days: the process tree of `fleetcast train`.

`python -m benchmarks.train_scale [--quick] [--data FLEET] [--epochs 2]` simulates the fleet where none is given, trains
the default preset's first network on two workers and adds up, every second, the resident sets of the command and of
all processes below it, Ray's included: `ours` is the most that was seen, memory that processes share counted in each;
`proportional` counts it once. The peer is the pandas frame that `TimeSeriesDataSet` takes, all of it in memory, by the
size of its first part; the library copies it. `seconds` is the whole command's time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks._report import finish, parser_of
from benchmarks.accuracy.__main__ import small_fleet
from fleetcast.dataset.reader import Dataset
from fleetcast.settings import RaySettings
from fleetcast.simulate.shards import simulate_dataset
from fleetcast.simulate.spec import FleetSpec

POLL_S = 1.0
MOST_BYTES = 6 * 1024**3


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", help="a dataset that is there already")
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = Path(options.data or folder / "data")
        if not options.data and options.quick:
            small_fleet(data)
        elif not options.data:
            spec = FleetSpec(servers=10_000, hours=720, seed=11)
            simulate_dataset(spec, data, progress=False, ray_settings=RaySettings(num_cpus=2))
        preset = ["--preset", "tiny", "--holdout", "30h"] if options.quick else ["--members", "1"]
        command = [
            *(str(Path(sys.executable).with_name("fleetcast")), "train", "--data", str(data)),
            *("--models", str(folder / "models")),
            *("--epochs", str(options.epochs), "--workers", "2", *preset),
        ]
        begun = time.perf_counter()
        resident, proportional = most_memory(command, folder / "train.log")
        seconds = time.perf_counter() - begun
        frame, rows = frame_bytes(Dataset.open(data))
    result: dict[str, object] = {
        "benchmark": "train_scale",
        "ours": resident,
        "peer": frame,
        "peer_name": "the frame that TimeSeriesDataSet takes",
        "ratio": resident / frame,
        "unit": "bytes",
        "limit": {"ours": {"at_most": MOST_BYTES}},
        "threads": 2,
        "rounds": 1,
        "spread": {"ours": [resident, resident]},
        "proportional": proportional,
        "rows": rows,
        "epochs": options.epochs,
        "seconds": seconds,
    }
    finish(result, options.quick)


def most_memory(command: list[str], log: Path) -> tuple[int, int]:
    """The most resident bytes of a command and all below it while it runs, with shared memory and proportionally."""
    most, fair = 0, 0
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        while process.poll() is None:
            resident, proportional = memory_of(process.pid)
            most, fair = max(most, resident), max(fair, proportional)
            time.sleep(POLL_S)
    if process.returncode:
        raise SystemExit(f"the training failed:\n{log.read_text()}")
    return most, fair


def memory_of(root: int) -> tuple[int, int]:
    resident, proportional = 0, 0
    try:
        family = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    for process in family:
        try:
            found = process.memory_full_info()
        except psutil.Error:
            continue
        resident, proportional = resident + found.rss, proportional + found.pss
    return resident, proportional


def frame_bytes(dataset: Dataset) -> tuple[int, int]:
    """Bytes of the dataset as a pandas frame with float32 metrics and codes for words, and its rows."""
    frame = next(iter(dataset.tables())).to_pandas()
    for name in ("server", "profile", "state"):
        frame[name] = frame[name].astype("category")
    rows = sum(part.rows for part in dataset.manifest.parts)
    return int(frame.memory_usage(deep=True).sum() / len(frame) * rows), rows


if __name__ == "__main__":
    main()
