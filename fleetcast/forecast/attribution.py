"""What the network itself tells of a forecast: variable-selection weights and attention over the past."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from fleetcast.forecast.forecaster import Forecaster
from fleetcast.windows.arrays import FleetArrays


class Attended(BaseModel):
    """The share of the attention that one encoder token gets, 0-1. Steps count from the origin, which is 0."""

    model_config = ConfigDict(frozen=True)

    first_step: int
    last_step: int
    start: datetime = Field(description="UTC time of the first step")
    end: datetime = Field(description="UTC time of the last step")
    share: float

    @property
    def steps(self) -> int:
        """Number of 5-minute steps that the token holds."""
        return self.last_step - self.first_step + 1


class Attribution(BaseModel):
    """Weights of one forecast.

    `static`, `encoder` and `decoder` hold the variables' selection weights, the largest first; each adds up to 1. Those
    of the encoder and the decoder are means over their tokens, as pytorch-forecasting's `interpret_output` has them.
    `past` and `ahead` (what the network attends to in the horizon's own steps) add up to 1; they are means over the
    heads and the tokens of the horizon.
    """

    model_config = ConfigDict(frozen=True)

    static: dict[str, float]
    encoder: dict[str, float]
    decoder: dict[str, float]
    past: tuple[Attended, ...] = Field(description="by encoder token, oldest first")
    ahead: float


def attribute(forecaster: Forecaster, history: FleetArrays) -> Attribution:
    """The network's weights for the one server of a `history` (`Forecaster.history`)."""
    network = forecaster.network.transformer
    with torch.inference_mode():
        found = network(forecaster.inputs(history), attention=True)
        told = network.interpret_output(found, reduction="none")
        past = found["encoder_attention"][0].mean(dim=(0, 1)).double().numpy()
        ahead = float(found["decoder_attention"][0].sum(dim=-1).mean())
    return Attribution(
        static=_ranked(network.static_variables, told["static_variables"]),
        encoder=_ranked(network.encoder_variables, told["encoder_variables"]),
        decoder=_ranked(network.decoder_variables, told["decoder_variables"]),
        past=_spans(history, forecaster.spec.pools, past.tolist()),
        ahead=ahead,
    )


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
