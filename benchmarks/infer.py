"""Data frame in, quantile table out: our forecaster beside pytorch-forecasting's `from_dataset` + `predict`.

`python -m benchmarks.infer [--quick]` prints a table and ends with one line of JSON; figures are servers a second of
the larger fleet, one thread, both sides interleaved round by round with the same weights of the 87,080-parameter
reference network (288 + 96 steps). First the raw outputs of the library, of our network and of its compiled form are
compared on the library's own batches. Beside it neuralforecast's network, where `make peers-neural` has installed it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

from benchmarks._report import finish, is_quick
from benchmarks._stock import (
    METRICS,
    SPEC,
    START,
    STOCK_BATCH,
    dataset_of,
    gemm_peak,
    network_of,
    quiet,
    reference_config,
    samples,
)
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.heap import keep_freed_memory
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import BundleManifest
from fleetcast.model.native.predictor import NativePredictor
from fleetcast.model.transformer import FastTemporalFusionTransformer
from fleetcast.settings import ForecastSettings
from fleetcast.windows.arrays import arrays_from_table

NEURAL = Path(sys.prefix) / "peers-neural" / "bin" / "python"
NEURAL_SCRIPT = Path(__file__).parent / "peers" / "neuralforecast_tft.py"
LEAST_COMPILED, LEAST_EAGER, LARGEST_ERROR = 6.0, 4.0, 1e-5
ORIGIN = datetime.fromtimestamp(START + 300 * (SPEC.context - 1), UTC)


def main() -> None:
    quick = is_quick(__doc__)
    quiet()
    keep_freed_memory()  # as the forecast job's workers and the service's replicas do
    sizes, rounds = ((8, 24), 1) if quick else ((512, 5000), 3)
    frame = samples(max(sizes), SPEC.context + SPEC.horizon)
    dataset = dataset_of(frame)
    network = network_of(dataset)
    error = largest_error(network, dataset)
    sides = sides_of(network, dataset)
    seconds: dict[int, dict[str, list[float]]] = {size: {name: [] for name in sides} for size in sizes}
    for number in range(rounds + 1):  # the first round warms up, with the smaller fleet
        for size in sizes if number else sizes[:1]:
            part = frame[frame["server"] < f"server{size:05d}"]
            for name, run in sides.items():
                begun = time.perf_counter()
                rows = run(part)
                if number:
                    seconds[size][name].append(time.perf_counter() - begun)
                if rows != size * SPEC.horizon:
                    raise AssertionError(f"{name} made {rows} rows, expected {size * SPEC.horizon}")
    finish({**result(seconds, rounds, error), "neuralforecast": None if quick else neural(sizes[0])}, quick)


def sides_of(network: object, dataset: object) -> dict[str, Callable[[pd.DataFrame], int]]:
    """Frame to the number of rows of a quantile table."""
    eager, compiled = (forecaster(network, compiled=flag) for flag in (False, True))
    if not compiled.kernels:
        raise AssertionError("the compiled kernel could not be made here")
    return {
        "compiled": lambda frame: ours(compiled, frame),
        "eager": lambda frame: ours(eager, frame),
        "peer": lambda frame: stock(network, dataset, frame),
    }


def forecaster(network: object, compiled: bool) -> Forecaster:
    """Our forecaster with the library's weights."""
    return Forecaster(bundle_of(network), ForecastSettings(compiled=compiled))


def bundle_of(network: object) -> Bundle:
    """The library's weights as a bundle."""
    weights = {f"transformer.{name}": tensor for name, tensor in network.state_dict().items()}  # type: ignore[attr-defined]
    manifest = BundleManifest(
        run="benchmark", created=ORIGIN, preset="reference", targets=SPEC.targets, features=METRICS,
        levels=SPEC.levels, context=SPEC.context, horizon=SPEC.horizon, window=SPEC.model_dump(mode="json"),
        network=reference_config(), cutoff=ORIGIN, timezone="UTC", parameters=0, data_fingerprint="",
    )  # fmt: skip
    return Bundle(manifest, weights)


def ours(forecaster_: Forecaster, frame: pd.DataFrame) -> int:
    known = frame[frame["time_idx"] < SPEC.context]
    table = pa.table(
        {
            "server": pa.array(known["server"], pa.string()),
            "profile": pa.array(known["profile"], pa.string()),
            "timestamp": pa.array(known["timestamp"]).cast(TIMESTAMP),
            **{name: pa.array(known[name]) for name in METRICS},
        }
    )
    return int(forecaster_.forecast(arrays_from_table(table), ORIGIN).to_table().num_rows)


def stock(network: object, dataset: object, frame: pd.DataFrame) -> int:
    """As the library's users do it; decoder rows after the origin are there already."""
    from pytorch_forecasting import TimeSeriesDataSet  # noqa: PLC0415 (its import is not what is measured)

    windows = TimeSeriesDataSet.from_dataset(dataset, frame, predict=True, stop_randomization=True)
    trainer = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    found = network.predict(  # type: ignore[attr-defined]
        windows, mode="quantiles", return_index=True, batch_size=STOCK_BATCH, trainer_kwargs=trainer
    )
    quantiles = found.output.numpy()
    count, horizon, levels = quantiles.shape
    table = pd.DataFrame(quantiles.reshape(-1, levels), columns=[f"q{level}" for level in SPEC.levels])
    table.insert(0, "server", np.repeat(found.index["server"].to_numpy(), horizon))
    table.insert(1, "step", np.tile(np.arange(1, horizon + 1), count))
    return len(table)


def largest_error(network: object, dataset: object) -> float:
    """The largest difference of raw outputs on a batch of the library's; raises above 1e-5."""
    inputs, _ = next(iter(dataset.to_dataloader(train=False, batch_size=STOCK_BATCH)))  # type: ignore[attr-defined]
    fast = FastTemporalFusionTransformer(**network.hparams)  # type: ignore[attr-defined]
    fast.load_state_dict(network.state_dict())  # type: ignore[attr-defined]
    fast.eval()
    network.eval()  # type: ignore[attr-defined]
    before = network.transform_output  # type: ignore[attr-defined]
    network.transform_output = fast.transform_output  # type: ignore[attr-defined]
    with torch.inference_mode():
        wanted = network(inputs)["prediction"]  # type: ignore[operator]
        found = [fast(inputs)["prediction"], NativePredictor(fast, SPEC.context + SPEC.horizon)(inputs)]
    network.transform_output = before  # type: ignore[attr-defined]
    error = max(float((one - wanted).abs().max()) for one in found)
    if error > LARGEST_ERROR:
        raise AssertionError(f"raw outputs differ by {error}")
    return error


def neural(servers: int) -> dict[str, float] | None:
    """Series a second and size of neuralforecast's network; None without its environment (`make peers-neural`)."""
    if not NEURAL.exists():
        return None
    command, environment = [str(NEURAL), str(NEURAL_SCRIPT), str(servers)], {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(found.stdout.splitlines()[-1]))


def operations() -> float:
    """Floating-point operations of a forecast's matrix products in the restructured form, two a multiply-add."""
    config = reference_config()
    hidden, depth, heads = config.hidden_size, config.hidden_continuous_size, config.attention_heads
    head = hidden // heads

    def selection(reals: int, words: int) -> int:
        inputs = reals + words
        inner = min(hidden, inputs)
        return reals * (depth * 2 * hidden + inner + inputs) + inner * 2 * inputs

    step = (
        8 * hidden**2 + 2 * hidden**2 + 3 * hidden**2 + hidden**2 + hidden * head
    )  # LSTM, skip, enrichment, key, value
    asked = 8 * hidden**2 + head * hidden  # query 1, gates 2 and 2, feed-forward 3; heads
    outputs = hidden * config.targets * len(config.levels)
    past, ahead = config.encoder_tokens, config.decoder_tokens
    pairs = sum(past + number for number in range(ahead))
    encoder = past * (selection(len(config.encoder_reals), len(config.encoder_categoricals)) + step)
    decoder = ahead * (selection(len(config.decoder_reals), 0) + step + asked + outputs)
    return 2.0 * (encoder + decoder + pairs * (hidden + head))


def result(seconds: dict[int, dict[str, list[float]]], rounds: int, error: float) -> dict[str, object]:
    speeds = {
        size: {name: [size / one for one in taken] for name, taken in sides.items()} for size, sides in seconds.items()
    }
    medians = {size: {name: statistics.median(all_) for name, all_ in sides.items()} for size, sides in speeds.items()}
    table = Table(
        "servers", "compiled, /s", "eager, /s", "pytorch-forecasting, /s", "compiled / stock", "eager / stock"
    )
    for size, found in medians.items():
        ratios = (found["compiled"] / found["peer"], found["eager"] / found["peer"])
        table.add_row(
            f"{size:,}", *(f"{found[n]:,.0f}" for n in ("compiled", "eager", "peer")), *(f"{r:.1f}" for r in ratios)
        )
    Console(width=120).print(table)
    least, most, peak = min(medians), max(medians), gemm_peak()
    return {
        "benchmark": "infer",
        "ours": medians[most]["compiled"],
        "peer": medians[most]["peer"],
        "peer_name": "pytorch-forecasting 1.8: TimeSeriesDataSet.from_dataset and model.predict, the same weights",
        "ratio": medians[most]["compiled"] / medians[most]["peer"],
        "ratio_eager": medians[most]["eager"] / medians[most]["peer"],
        "ratio_small": medians[least]["compiled"] / medians[least]["peer"],
        "ratio_eager_small": medians[least]["eager"] / medians[least]["peer"],
        "unit": "servers/s",
        "limit": {
            "ratio": {"at_least": LEAST_COMPILED},
            "ratio_small": {"at_least": LEAST_COMPILED},
            "ratio_eager": {"at_least": LEAST_EAGER},
            "ratio_eager_small": {"at_least": LEAST_EAGER},
        },
        "threads": 1,
        "rounds": rounds,
        "spread": {name: [min(all_), max(all_)] for name, all_ in speeds[most].items()},
        "medians": {str(size): found for size, found in medians.items()},
        "largest_error": error,
        "gemm_flops": peak,
        "gemm_share": medians[most]["compiled"] * operations() / peak,
    }


if __name__ == "__main__":
    main()
