"""Frame to batches: our dense windows beside pytorch-forecasting's `TimeSeriesDataSet` and its data loader.

`python -m benchmarks.windows [--quick]` ends with one line of JSON; figures are windows a second, one thread. Both
sides make every full window (288 + 96 steps) of the same samples for the reference network, interleaved round by round.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from benchmarks._report import finish, is_quick
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.model.config import PRESETS
from fleetcast.windows.arrays import arrays_from_table
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.sampling import WindowLoader, usable_windows
from fleetcast.windows.spec import PLAIN_CALENDAR, WindowSpec

BATCH = 128
METRICS = PRESETS["reference"].features or ()
SPEC = WindowSpec(
    targets=PRESETS["reference"].targets or (), features=METRICS, levels=QUANTILE_LEVELS, **PRESETS["reference"].window
)


def samples(servers: int, steps: int) -> pd.DataFrame:
    """Random samples, one row a server and step; calendar, state and step number are there for the peer."""
    seconds = 1_767_571_200 + 300 * np.arange(steps, dtype=np.int64)
    frame = pd.DataFrame(
        {
            "server": np.repeat([f"server{number:03d}" for number in range(servers)], steps),
            "profile": "database",
            "state": "healthy",
            "timestamp": np.tile(seconds, servers),
            "time_idx": np.tile(np.arange(steps), servers),
        }
    )
    generator = np.random.default_rng(0)
    for name in METRICS:
        frame[name] = generator.random(len(frame)).astype(np.float32)
    calendar = calendar_features(seconds, "UTC", PLAIN_CALENDAR)
    for column, name in enumerate(PLAIN_CALENDAR):
        frame[name] = np.tile(calendar[:, column], servers)
    return frame


def ours(frame: pd.DataFrame) -> int:
    """Make all batches; returns the number of windows."""
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
    loader = WindowLoader(WindowBatcher(fleet, SPEC, None), windows, BATCH)
    return sum(len(inputs["center"]) for inputs, _ in loader)


def peer(frame: pd.DataFrame) -> int:
    """Make all batches with pytorch-forecasting; returns the number of windows."""
    from pytorch_forecasting import TimeSeriesDataSet  # noqa: PLC0415 (its import is not what is measured)

    dataset = TimeSeriesDataSet(
        frame,
        time_idx="time_idx",
        target=SPEC.targets[0],
        group_ids=["server"],
        min_encoder_length=SPEC.context,
        max_encoder_length=SPEC.context,
        min_prediction_length=SPEC.horizon,
        max_prediction_length=SPEC.horizon,
        static_categoricals=["profile"],
        time_varying_unknown_categoricals=["state"],
        time_varying_known_reals=list(PLAIN_CALENDAR),
        time_varying_unknown_reals=list(METRICS),
        add_relative_time_idx=True,
        add_target_scales=True,
        add_encoder_length=True,
    )
    loader = dataset.to_dataloader(train=False, batch_size=BATCH, num_workers=0)
    return sum(len(inputs["encoder_cont"]) for inputs, _ in loader)


def windows_per_second(run: Callable[[pd.DataFrame], int], frame: pd.DataFrame, expected: int) -> float:
    begun = time.perf_counter()
    found = run(frame)
    if found != expected:
        raise AssertionError(f"{run.__name__} made {found} windows, expected {expected}")
    return found / (time.perf_counter() - begun)


def main() -> None:
    quick = is_quick(__doc__)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    servers, extra, rounds = (2, 16, 1) if quick else (20, 256, 5)
    frame = samples(servers, SPEC.context + SPEC.horizon + extra - 1)
    speeds: dict[str, list[float]] = {"ours": [], "peer": []}
    windows_per_second(ours, frame, servers * extra)  # warm both up
    windows_per_second(peer, frame, servers * extra)
    for _ in range(rounds):
        speeds["ours"].append(windows_per_second(ours, frame, servers * extra))
        speeds["peer"].append(windows_per_second(peer, frame, servers * extra))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    result = {
        "benchmark": "windows",
        "ours": medians["ours"],
        "peer": medians["peer"],
        "peer_name": "pytorch-forecasting TimeSeriesDataSet and its data loader",
        "ratio": medians["ours"] / medians["peer"],
        "unit": "windows/s",
        "limit": None,
        "threads": 1,
        "rounds": rounds,
        "spread": {name: [min(found), max(found)] for name, found in speeds.items()},
    }
    finish(result, quick)


if __name__ == "__main__":
    main()
