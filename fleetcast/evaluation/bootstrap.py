"""Intervals by resampling servers.

A server is the unit that is drawn: its windows and metrics stay together, since they depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS, SEED = 1000, 20_240_501
LOW, HIGH = 2.5, 97.5  # per cent
BLOCK = 100  # draws at a time

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Resampled:
    """Sums over resampled servers: `loss` and `scaled` [draw, metric] by forecaster, the rest [draw, metric]."""

    loss: dict[str, Floats]
    scaled: dict[str, Floats]
    weight: Floats
    windows: Floats

    def wql(self, name: str, levels: int) -> Floats:
        """Weighted quantile loss [draw, metric]."""
        return _divide(2.0 * self.loss[name], levels * self.weight)

    def mase(self, name: str) -> Floats:
        """Mean MASE over server windows [draw, metric]."""
        return _divide(self.scaled[name], self.windows)

    def wql_ratio(self, name: str, rival: str) -> Floats:
        """Ratio of the weighted quantile losses [draw, metric]."""
        return _divide(self.loss[name], self.loss[rival])

    def mase_ratio(self, name: str, rival: str) -> Floats:
        """Ratio of the mean MASE [draw, metric]."""
        return _divide(self.scaled[name], self.scaled[rival])


def resample(
    loss: dict[str, Floats], scaled: dict[str, Floats], weight: Floats, windows: Floats, draws: int = DRAWS
) -> Resampled:
    """Sums over `draws` samples of servers with replacement, all [server, metric] at the same draws; seeded."""
    names = list(loss)
    columns = [*(loss[name] for name in names), *(scaled[name] for name in names), weight, windows]
    matrix = np.concatenate(columns, axis=1)
    found = np.concatenate([counts @ matrix for counts in draws_of(len(weight), draws)])
    parts = np.split(found, len(columns), axis=1)
    count = len(names)
    return Resampled(
        dict(zip(names, parts[:count], strict=True)),
        dict(zip(names, parts[count : 2 * count], strict=True)),
        parts[-2],
        parts[-1],
    )


def draws_of(servers: int, draws: int = DRAWS) -> Iterator[Floats]:
    """How often each server is drawn, [draw, server], `BLOCK` draws at a time; the same ones for so many servers."""
    random = np.random.default_rng(SEED)
    for first in range(0, draws, BLOCK):
        size = min(BLOCK, draws - first)
        picked = random.integers(servers, size=(size, servers)) + servers * np.arange(size)[:, None]
        yield np.bincount(picked.ravel(), minlength=size * servers).reshape(size, servers).astype(np.float64)


def interval(draws: Floats) -> tuple[float, float] | None:
    """The middle 95 % of the draws that exist; None where there are none."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return None
    low, high = np.percentile(known, (LOW, HIGH))
    return float(low), float(high)


def geometric(ratios: Floats) -> Floats:
    """Geometric mean over the metrics that exist, [draw] of [draw, metric]."""
    usable = ratios[:, np.isfinite(ratios).any(axis=0) & (np.nan_to_num(ratios) > 0).any(axis=0)]
    if not usable.shape[1]:
        return np.full(len(ratios), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.exp(np.log(usable).mean(axis=1)))


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
