"""The training loss: pinball in units of each window's own scale, missing steps masked."""

from __future__ import annotations

from collections.abc import Sequence

import torch

LARGE = 2.0  # losses above this grow with their logarithm, so that a few wild windows do not drown the rest


def pinball(quantiles: torch.Tensor, truth: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    """Pinball loss max(q(y - x), (q - 1)(y - x)) (Koenker and Bassett 1978), shape of `quantiles`; NaN truth is 0.

    `quantiles` is [batch, horizon, target, level], `truth` [batch, horizon, target].
    """
    level = torch.as_tensor(levels, dtype=quantiles.dtype, device=quantiles.device)
    known = ~torch.isnan(truth)
    error = torch.where(known, truth, 0.0)[..., None] - quantiles
    return torch.maximum(level * error, (level - 1) * error) * known[..., None]


def window_loss(
    quantiles: torch.Tensor, truth: torch.Tensor, inputs: dict[str, torch.Tensor], levels: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean pinball loss of each window and target in units of `inputs["loss_scale"]`, and whether it counts.

    Both [batch, target]. A target counts that has any truth and was observed in the encoder (`inputs["observed"]`).
    """
    known = (~torch.isnan(truth)).sum(dim=1)
    total = pinball(quantiles, truth, levels).mean(dim=-1).sum(dim=1)
    return total / known.clamp_min(1) / inputs["loss_scale"], (known > 0) & inputs["observed"]


def training_loss(losses: torch.Tensor, known: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean over windows and targets of weighted losses, large ones compressed; `weights` is [target]."""
    weighted = losses * weights
    compressed = torch.where(weighted > LARGE, LARGE * (1 + torch.log(weighted.clamp_min(LARGE) / LARGE)), weighted)
    mean: torch.Tensor = (compressed * known).sum() / known.sum().clamp_min(1)
    return mean
