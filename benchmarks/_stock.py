"""The peer of the training and inference benchmarks: pytorch-forecasting's reference network on its own dataset."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch

from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.model.config import PRESETS, REFERENCE_PARAMETERS, NetworkConfig
from fleetcast.training.plan import network_for
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.spec import PLAIN_CALENDAR, WindowSpec

PRESET = PRESETS["reference"]
METRICS = PRESET.features or ()
SPEC = WindowSpec(targets=PRESET.targets or (), features=METRICS, levels=QUANTILE_LEVELS, **PRESET.window)
START = 1_767_571_200  # Unix seconds, on the grid
STOCK_BATCH = 64  # the faster of 64 and 128 for the library's prediction here


def reference_config() -> NetworkConfig:
    """The 87,080-parameter network of this package."""
    return network_for(SPEC, PRESET)


def samples(servers: int, steps: int) -> pd.DataFrame:
    """Random samples, one row a server and step, with the columns that the library wants besides."""
    seconds = START + 300 * np.arange(steps, dtype=np.int64)
    frame = pd.DataFrame(
        {
            "server": np.repeat([f"server{number:05d}" for number in range(servers)], steps),
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


def dataset_of(frame: pd.DataFrame, **options: Any) -> Any:
    """The library's dataset of the reference network's windows; `options` are further ones of its own."""
    from pytorch_forecasting import GroupNormalizer, TimeSeriesDataSet  # noqa: PLC0415 (imported where it is used)

    return TimeSeriesDataSet(
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
        target_normalizer=GroupNormalizer(groups=["server"], transformation="softplus"),
        add_relative_time_idx=True,
        add_target_scales=True,
        add_encoder_length=True,
        **options,
    )


def network_of(dataset: Any) -> Any:
    """The library's network of 87,080 parameters."""
    from pytorch_forecasting import QuantileLoss, TemporalFusionTransformer  # noqa: PLC0415 (as above)

    config = reference_config()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = TemporalFusionTransformer.from_dataset(
            dataset,
            hidden_size=config.hidden_size,
            attention_head_size=config.attention_heads,
            hidden_continuous_size=config.hidden_continuous_size,
            lstm_layers=config.lstm_layers,
            dropout=config.dropout,
            loss=QuantileLoss(list(SPEC.levels)),
            embedding_sizes={name: (rows, config.embedding_size) for name, rows in config.vocabulary.items()},
            learning_rate=PRESET.learning_rate,
            log_interval=-1,
        )
    found = sum(parameter.numel() for parameter in network.parameters())
    if found != REFERENCE_PARAMETERS:
        raise AssertionError(f"the peer has {found} parameters, the reference network {REFERENCE_PARAMETERS}")
    return network


def quiet() -> None:
    """No notices of Lightning and the library between the figures; one thread."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)


def gemm_peak() -> float:
    """Floating-point operations a second of a float32 matrix product here, one thread: the best of ten."""
    size, best = 1024, float("inf")
    left, right = torch.rand(size, size), torch.rand(size, size)
    for _ in range(10):
        begun = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best
