"""What the network itself tells of a forecast: variable-selection weights and attention over the past."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from fleetcast.forecast.explanation import Attended, Attribution
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.windows.arrays import FleetArrays


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
