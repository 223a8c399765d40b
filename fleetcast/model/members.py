"""Several networks at once: their weights in one file, and the median of what they say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fleetcast.model.config import NetworkConfig
from fleetcast.model.network import ForecastNetwork

Tensors = dict[str, torch.Tensor]


def joined(members: Sequence[Tensors]) -> Tensors:
    """The tensors of all members in one dict; those of a single one keep their names."""
    if len(members) == 1:
        return dict(members[0])
    return {f"{number}.{name}": tensor for number, member in enumerate(members) for name, tensor in member.items()}


def parted(weights: Tensors, members: int) -> list[Tensors]:
    """The tensors of each member; the opposite of `joined`."""
    if members == 1:
        return [weights]
    found: list[Tensors] = [{} for _ in range(members)]
    for name, tensor in weights.items():
        number, _, own = name.partition(".")
        if number.isdecimal() and int(number) < members:
            found[int(number)][own] = tensor
    return found


def networks_of(config: NetworkConfig, members: int) -> list[ForecastNetwork]:
    """So many networks that are ready to be given weights."""
    return [ForecastNetwork(config) for _ in range(members)]


def median(quantiles: Sequence[torch.Tensor]) -> torch.Tensor:
    """Median over members of quantiles of one shape; of an even number the mean of the middle two.

    The median of ascending quantiles ascends, and keeps an exact value that most members agree on, unlike the mean.
    """
    if len(quantiles) == 1:
        return quantiles[0]
    ordered = torch.stack(list(quantiles)).sort(dim=0).values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def member_seed(seed: int, number: int) -> int:
    """Seed of a member's training; that of the first is the training's own."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0]) if number else seed
