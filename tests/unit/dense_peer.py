"""Frames, specifications and the library's dataset for the tests of dense windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_forecasting import TimeSeriesDataSet
from pytorch_forecasting.data.encoders import EncoderNormalizer, GroupNormalizer, MultiNormalizer, NaNLabelEncoder

from fleetcast.windows.dense_spec import DenseSpec, TargetNormaliser

REALS = ("cpu", "memory", "disk")
ROLES = (
    "static_categoricals",
    "static_reals",
    "time_varying_known_categoricals",
    "time_varying_known_reals",
    "time_varying_unknown_categoricals",
    "time_varying_unknown_reals",
)
FULL = DenseSpec(
    targets=("cpu",),
    max_encoder_length=12,
    max_prediction_length=4,
    static_categoricals=("profile",),
    static_reals=("size",),
    time_varying_known_reals=("hour", "week"),
    time_varying_unknown_categoricals=("state",),
    time_varying_unknown_reals=REALS,
    add_relative_time_idx=True,
    add_target_scales=True,
    add_encoder_length=True,
)
BY_WINDOW = FULL.model_copy(update={"normaliser": TargetNormaliser(by="window")})


def frame_of(seed: int, servers: int = 4, steps: int = 40, dtype: type = np.float32) -> pd.DataFrame:
    """Series of different lengths, starts and sizes; one profile and one state are no words of the contract."""
    generator = np.random.default_rng(seed)
    parts = []
    for number in range(servers):
        length = steps - int(generator.integers(0, steps // 2)) if number else steps
        first = int(generator.integers(0, 5))
        part = pd.DataFrame({"server": f"server{number}", "time_idx": first + np.arange(length)})
        part["profile"] = ("database", "web_api", "mainframe")[number % 3]
        part["state"] = generator.choice(["healthy", "idle", "bored"], length)
        part["size"] = float(generator.integers(1, 9))
        part["hour"] = part["time_idx"] % 24 / 23
        part["week"] = part["time_idx"] // 7
        for name in REALS:
            part[name] = (generator.random(length) * generator.uniform(1, 60)).astype(dtype)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def frozen_encoder(words: Iterable[str]) -> NaNLabelEncoder:
    encoder = NaNLabelEncoder(add_nan=True, warn=False)
    encoder.classes_ = {"nan": 0, **{word: code for code, word in enumerate(words, start=1)}}
    return encoder


def library(frame: pd.DataFrame, spec: DenseSpec, **changes: Any) -> TimeSeriesDataSet:
    """The library's dataset of the same specification; `changes` are its arguments."""
    how = spec.normaliser

    def normaliser() -> Any:
        if how.by == "window":
            return EncoderNormalizer(transformation=how.transformation, center=how.center)
        return GroupNormalizer(groups=["server"], transformation=how.transformation, center=how.center)

    single = len(spec.targets) == 1
    encoders = {name: frozen_encoder(spec.vocabularies[name]) for name in spec.categoricals}
    arguments = {
        "time_idx": "time_idx",
        "target": spec.targets[0] if single else list(spec.targets),
        "group_ids": ["server"],
        "max_encoder_length": spec.max_encoder_length,
        "min_encoder_length": spec.min_encoder_length,
        "max_prediction_length": spec.max_prediction_length,
        **{role: list(getattr(spec, role)) for role in ROLES},
        "add_relative_time_idx": spec.add_relative_time_idx,
        "add_target_scales": spec.add_target_scales,
        "add_encoder_length": spec.add_encoder_length,
        "target_normalizer": normaliser() if single else MultiNormalizer([normaliser() for _ in spec.targets]),
        "categorical_encoders": {**encoders, **changes.pop("encoders", {})},
    }
    return TimeSeriesDataSet(frame, **arguments, **changes)


def batches_of(dataset: TimeSeriesDataSet, size: int) -> list[Any]:
    return list(dataset.to_dataloader(train=False, batch_size=size, num_workers=0))


def flat(values: Any) -> list[torch.Tensor]:
    return values if isinstance(values, list) else [values]


def assert_same_bits(found: Any, expected: Any, what: str) -> None:
    assert type(found) is type(expected), what
    for mine, theirs in zip(flat(found), flat(expected), strict=True):
        assert mine.dtype == theirs.dtype, what
        assert mine.shape == theirs.shape, what
        assert mine.contiguous().numpy().tobytes() == theirs.contiguous().numpy().tobytes(), what


def assert_equal_batches(found: list[Any], expected: list[Any]) -> None:
    """Every key of x, and y, in every batch; beside them only the masks."""
    for (x, (target, weight)), (theirs, (their_target, their_weight)) in zip(found, expected, strict=True):
        assert set(x) - set(theirs) == {"encoder_observed", "decoder_observed"}
        for name, values in theirs.items():
            assert_same_bits(x[name], values, name)
        assert_same_bits(target, their_target, "y")
        assert weight is None
        assert their_weight is None
        behind = torch.arange(x["encoder_observed"].shape[1]) >= x["encoder_lengths"][:, None]
        assert torch.equal(x["encoder_observed"], ~behind)
        assert x["decoder_observed"].all()
