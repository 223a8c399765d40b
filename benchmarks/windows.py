"""Frame to batches: dense windows beside pytorch-forecasting's `TimeSeriesDataSet` and its data loader.

`python -m benchmarks.windows [--quick]` ends with one line of JSON; figures are windows a second, one thread. Both
sides make every full window (288 + 96 steps) of the same frame with the variables of the reference network,
interleaved round by round: normalised by server with softplus (`ours`, `peer`, `ratio`), and by encoder window, the
library's default (`window_normaliser`). First all batches of both are compared, every key of x and y bit for bit: one
difference ends the run. `fleet` is the rate of the fleet model's own batcher with the default preset, from arrays in
memory, on a fleet of as many servers.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._report import finish, is_quick
from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.model.base import ResidualBase
from fleetcast.model.config import PRESETS
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.dense import DenseWindows
from fleetcast.windows.dense_spec import DenseSpec, TargetNormaliser
from fleetcast.windows.sampling import WindowIndex, WindowLoader
from fleetcast.windows.spec import PLAIN_CALENDAR, WindowSpec

BATCH = 128
START = 1_767_571_200
METRICS = PRESETS["reference"].features or ()
BY_SERVER = DenseSpec(
    targets=PRESETS["reference"].targets or (),
    static_categoricals=("profile",),
    time_varying_known_reals=PLAIN_CALENDAR,
    time_varying_unknown_categoricals=("state",),
    time_varying_unknown_reals=METRICS,
    normaliser=TargetNormaliser(by="server", transformation="softplus"),
    add_relative_time_idx=True,
    add_target_scales=True,
    add_encoder_length=True,
)
BY_WINDOW = BY_SERVER.model_copy(update={"normaliser": TargetNormaliser(by="window")})
LIMIT = {"at_least": 40}
Batches = Iterable[tuple[dict[str, Any], tuple[Any, Any]]]


def samples(servers: int, steps: int) -> pd.DataFrame:
    """Random samples, one row a server and step."""
    seconds = START + 300 * np.arange(steps, dtype=np.int64)
    generator = np.random.default_rng(0)
    rows = servers * steps
    frame = pd.DataFrame(
        {
            "server": np.repeat([f"server{number:03d}" for number in range(servers)], steps),
            "profile": np.repeat(generator.choice(BY_SERVER.vocabularies["profile"], servers), steps),
            "state": generator.choice(BY_SERVER.vocabularies["state"], rows),
            "time_idx": np.tile(np.arange(steps), servers),
        }
    )
    for name in METRICS:
        frame[name] = generator.random(rows).astype(np.float32)
    calendar = calendar_features(seconds, "UTC", PLAIN_CALENDAR)
    for column, name in enumerate(PLAIN_CALENDAR):
        frame[name] = np.tile(calendar[:, column], servers)
    return frame


def ours(frame: pd.DataFrame, spec: DenseSpec) -> Batches:
    """Our batches, one by one."""
    return DenseWindows(frame, spec).batches(BATCH)


def peer(frame: pd.DataFrame, spec: DenseSpec) -> Batches:
    """The library's batches, one by one."""
    from pytorch_forecasting import (  # noqa: PLC0415 (its import is not what is measured)
        EncoderNormalizer,
        GroupNormalizer,
        NaNLabelEncoder,
        TimeSeriesDataSet,
    )

    by_server = GroupNormalizer(groups=[spec.server], transformation=spec.normaliser.transformation)
    encoders = {}
    for name in spec.categoricals:  # the frozen codes of the contract
        encoders[name] = NaNLabelEncoder(add_nan=True)
        encoders[name].classes_ = {"nan": 0, **{word: code for code, word in enumerate(spec.vocabularies[name], 1)}}
    dataset = TimeSeriesDataSet(
        frame,
        time_idx=spec.time_idx,
        target=spec.targets[0],
        group_ids=[spec.server],
        max_encoder_length=spec.max_encoder_length,
        max_prediction_length=spec.max_prediction_length,
        static_categoricals=list(spec.static_categoricals),
        time_varying_unknown_categoricals=list(spec.time_varying_unknown_categoricals),
        time_varying_known_reals=list(spec.time_varying_known_reals),
        time_varying_unknown_reals=list(spec.time_varying_unknown_reals),
        add_relative_time_idx=True,
        add_target_scales=True,
        add_encoder_length=True,
        target_normalizer=by_server if spec.normaliser.by == "server" else EncoderNormalizer(),
        categorical_encoders=encoders,
    )
    loader: Batches = dataset.to_dataloader(train=False, batch_size=BATCH, num_workers=0)
    return loader


def require_equal(found: Batches, expected: Batches) -> None:
    """Raise AssertionError for the first key of a batch that differs in shape, type or a bit."""
    for number, ((x, (target, weight)), (theirs, (their_target, their_weight))) in enumerate(
        zip(found, expected, strict=True)
    ):
        pairs = [(name, x[name], values) for name, values in theirs.items()]
        for name, mine, values in [*pairs, ("y", target, their_target)]:
            if (mine.dtype, mine.shape) != (values.dtype, values.shape) or _bytes(mine) != _bytes(values):
                raise AssertionError(f"batch {number}: {name} differs from the library's")
        if weight is not None or their_weight is not None:
            raise AssertionError(f"batch {number}: there is a weight")


def _bytes(values: torch.Tensor) -> bytes:
    return values.contiguous().numpy().tobytes()


def windows_per_second(
    run: Callable[[pd.DataFrame, DenseSpec], Batches], frame: pd.DataFrame, spec: DenseSpec, expected: int
) -> float:
    begun = time.perf_counter()
    found = sum(len(x["encoder_cont"]) for x, _ in run(frame, spec))
    if found != expected:
        raise AssertionError(f"{run.__name__} made {found} windows, expected {expected}")
    return found / (time.perf_counter() - begun)


def fleet_windows_per_second(servers: int, windows: int) -> float:
    """The fleet model's batches of `windows` windows a server, with its base, lags and pooled tokens."""
    spec = WindowSpec(
        targets=DEFAULT_TARGETS, features=METRIC_NAMES, levels=QUANTILE_LEVELS, **PRESETS["default"].window
    )
    steps = spec.history_steps + spec.horizon + windows
    values = np.random.default_rng(0).random((servers, steps, len(METRIC_NAMES)), dtype=np.float32)
    names = tuple(f"server{number:03d}" for number in range(servers))
    fleet = FleetArrays(names, ("database",) * servers, METRIC_NAMES, START, values, MAINTENANCE.empty_table())
    index = WindowIndex(np.array([(row, spec.history_steps, windows) for row in range(servers)]))
    begun = time.perf_counter()
    base = ResidualBase(fleet.select(spec.targets), fleet.start, spec.horizon, spec.levels, spec.floor_leads)
    loader = WindowLoader(WindowBatcher(fleet, spec, base), index, BATCH)
    found = sum(len(inputs["center"]) for inputs, _ in loader)
    return found / (time.perf_counter() - begun)


def measure(frame: pd.DataFrame, spec: DenseSpec, windows: int, rounds: int) -> dict[str, Any]:
    """Compare all batches, then the rates of both sides: medians, ratio and spread."""
    require_equal(ours(frame, spec), peer(frame, spec))
    speeds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        speeds["ours"].append(windows_per_second(ours, frame, spec, windows))
        speeds["peer"].append(windows_per_second(peer, frame, spec, windows))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    spread = {name: [min(found), max(found)] for name, found in speeds.items()}
    return {**medians, "ratio": medians["ours"] / medians["peer"], "spread": spread, "equal": True}


def main() -> None:
    quick = is_quick(__doc__)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    servers, each, rounds = (2, 16, 1) if quick else (20, 512, 5)
    frame = samples(servers, BY_SERVER.max_encoder_length + BY_SERVER.max_prediction_length + each - 1)
    by_server = measure(frame, BY_SERVER, servers * each, rounds)
    by_window = measure(frame, BY_WINDOW, servers * each, rounds)
    result = {
        "benchmark": "windows",
        **by_server,
        "peer_name": "pytorch-forecasting TimeSeriesDataSet and its data loader",
        "window_normaliser": by_window,
        "window_normaliser_ratio": by_window["ratio"],
        "fleet": fleet_windows_per_second(servers, each),
        "windows": servers * each,
        "unit": "windows/s",
        "limit": {"ratio": LIMIT, "window_normaliser_ratio": LIMIT},
        "threads": 1,
        "rounds": rounds,
    }
    finish(result, quick)


if __name__ == "__main__":
    main()
