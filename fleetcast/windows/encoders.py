"""Normalisers with the arithmetic of pytorch-forecasting and scikit-learn, bit for bit, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from fleetcast.windows.columns import Ints, Reals

Parameters = npt.NDArray[np.floating]

_GROUP_EPSILON = float(np.finfo(np.float16).eps)  # pytorch-forecasting adds it to scales of arrays and frames
_WINDOW_EPSILON = torch.finfo(torch.float32).eps  # and this to scales of tensors


@dataclass(frozen=True)
class RealScaler:
    """Mean and scale of a real, as scikit-learn's `StandardScaler` has them."""

    mean: float
    scale: float

    @classmethod
    def fit(cls, values: Reals) -> RealScaler:
        """Of [row], NaN left out; the scale of a constant is 1, and so is that of a column without values."""
        seen = values if not np.isnan(values).any() else values[~np.isnan(values)]
        if not len(seen):
            return cls(0.0, 1.0)
        wide, count = seen.astype(np.float64), len(seen)
        mean = wide.sum() / count
        deviation = wide - mean
        variance = ((deviation**2).sum() - deviation.sum() ** 2 / count) / count
        epsilon = np.finfo(np.float64).eps
        constant = variance <= count * epsilon * variance + (count * mean * epsilon) ** 2
        return cls(float(mean), 1.0 if constant else float(np.sqrt(variance)))

    def apply(self, values: Reals) -> Reals:
        """(values - mean) / scale, in the type of `values`."""
        kind = values.dtype.type
        return np.asarray((values - kind(self.mean)) / kind(self.scale))


@dataclass(frozen=True)
class ServerScales:
    """Center and scale of a target by server, as `GroupNormalizer(groups=[server])` has them.

    `parameters` is [server, 2]; `fallback` [2], the medians over the servers, serves those that were not fitted.
    """

    servers: tuple[str, ...]
    parameters: Parameters
    fallback: Parameters

    @classmethod
    def fit(cls, values: Reals, codes: Ints, servers: tuple[str, ...], center: bool) -> ServerScales:
        """Of a (transformed) target [row] whose rows belong to `servers[codes]`.

        A server with fewer than two values, which have no standard deviation, gets the fallback.
        """
        rows = pd.Series(values).groupby(codes)  # pandas' own sums, which are compensated
        center_of = rows.mean()
        norm = pd.DataFrame({"center": center_of, "scale": (rows.std() if center else center_of) + _GROUP_EPSILON})
        if not center:
            norm["center"] = 0.0
        medians = norm.median()
        return cls(servers, norm.fillna(medians).to_numpy(), medians.to_numpy())

    def of(self, servers: Sequence[str]) -> Parameters:
        """Parameters [len(servers), 2]; the fallback for servers that were not fitted."""
        position = {server: row for row, server in enumerate(self.servers)}
        table = np.concatenate([self.parameters, self.fallback[None].astype(self.parameters.dtype)])
        return np.asarray(table[[position.get(server, -1) for server in servers]])


def softplus_inverse(values: Reals) -> Reals:
    """log(exp(values) - 1), as pytorch-forecasting rounds it; NaN below 0. Any shape, type kept."""
    given = torch.tensor(values)
    epsilon = torch.finfo(given.dtype).eps
    inverse = given + (given + epsilon).neg().expm1().neg().log()
    return np.asarray(given.where(given > 20.0, inverse).numpy())


def overall_scales(values: Reals, center: bool) -> Parameters:
    """Center and scale [2] of all rows together, as `EncoderNormalizer` fits an array."""
    seen = values[~np.isnan(values)]
    if not len(seen):
        return np.array([0.0, 1.0], values.dtype)
    mean = np.mean(seen) if center else values.dtype.type(0)
    return np.array([mean, np.std(seen) + _GROUP_EPSILON], values.dtype)


def window_scales(encoders: torch.Tensor, center: bool) -> torch.Tensor:
    """Center and scale [batch, 2] of encoders [batch, time], as `EncoderNormalizer` fits each; nothing is missing.

    `torch.std` of one series adds the squares one after the other in double precision: so does this.
    """
    mean = encoders.mean(dim=-1)
    deviation = encoders.T.contiguous().double().sub_(mean.double())
    squares = np.add.reduce(deviation.square_().numpy(), axis=0)
    scale = torch.from_numpy(np.sqrt(squares / (encoders.shape[1] - 1)).astype(np.float32))
    return torch.stack([mean if center else torch.zeros_like(mean), scale + _WINDOW_EPSILON], dim=-1)


def gappy_window_scales(
    encoders: torch.Tensor, seen: torch.Tensor, center: bool, fallback: torch.Tensor
) -> torch.Tensor:
    """The same where only `seen` [batch, time] values count, or `fallback` [batch, 2] where fewer than 2 are seen."""
    count = seen.sum(dim=-1, keepdim=True)
    values = encoders.double() * seen
    mean = values.sum(dim=-1, keepdim=True) / count.clamp(min=1)
    variance = ((values - mean).square() * seen).sum(dim=-1, keepdim=True) / (count - 1).clamp(min=1)
    found = torch.cat([mean if center else torch.zeros_like(mean), variance.sqrt() + _WINDOW_EPSILON], dim=-1)
    return torch.where(count >= 2, found.float(), fallback)
