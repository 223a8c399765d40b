"""What the network itself tells of a forecast: variable-selection weights and attention over the past."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from fleetcast.forecast.explanation import Attended, Attribution
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.transformer import FastTemporalFusionTransformer
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.tensors import Batch


def attribute(forecaster: Forecaster, history: FleetArrays) -> Attribution:
    """The networks' weights for the one server of a `history` (`Forecaster.history`), as their mean over members."""
    inputs = forecaster.inputs(history)
    told = [_told(network.transformer, inputs) for network in forecaster.networks]
    mean = {name: torch.stack([each[name] for each in told]).mean(dim=0) for name in told[0]}
    network = forecaster.networks[0].transformer
    return Attribution(
        static=_ranked(network.static_variables, mean["static"]),
        encoder=_ranked(network.encoder_variables, mean["encoder"]),
        decoder=_ranked(network.decoder_variables, mean["decoder"]),
        past=_spans(history, forecaster.spec.pools, mean["past"].tolist()),
        ahead=float(mean["ahead"]),
    )


def _told(network: FastTemporalFusionTransformer, inputs: Batch) -> Batch:
    with torch.inference_mode():
        found = network(inputs, attention=True)
        told = network.interpret_output(found, reduction="none")
        return {
            "past": found["encoder_attention"][0].mean(dim=(0, 1)).double(),
            "ahead": found["decoder_attention"][0].sum(dim=-1).mean(),
            **{part: told[f"{part}_variables"] for part in ("static", "encoder", "decoder")},
        }


def _ranked(names: Iterable[str], weights: torch.Tensor) -> dict[str, float]:
    pairs = zip(names, weights.reshape(-1).tolist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: -pair[1]))


def _spans(history: FleetArrays, pools: tuple[int, ...], shares: list[float]) -> tuple[Attended, ...]:
    """Tokens of mixed resolution as spans of time; the last one ends at the history's last step."""
    origin = history.steps - 1
    lasts = np.cumsum(pools) - sum(pools)
    return tuple(
        Attended(
            first_step=last - pool + 1,
            last_step=last,
            start=history.time_at(origin + last - pool + 1),
            end=history.time_at(origin + last),
            share=share,
        )
        for last, pool, share in zip(lasts.tolist(), pools, shares, strict=True)
    )
