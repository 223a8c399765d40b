"""Whose samples go ahead of an incident's: a probable upstream among the whole fleet, from the residuals alone.

Of each server's series the straight line and the fleet's median at each step are taken away, so that neither a drift
nor a common rush hour makes servers alike; what is left is divided by its median absolute deviation, clipped, and of a
server's metrics the highest at each step counts. A server's statistic is its correlation with each of the incident's
servers, shifted by the lag at which that is highest, times sqrt(steps), summed over them and divided by the root of
their number. What chance gives is read off the same data: the highest statistic of all servers at lags that are far
too long, and at negative ones, to which a Gumbel distribution is fitted (moments). A server is named when its statistic
is beyond the quantile 1 - `ALPHA` of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

METRICS = ("cpu_utilization", "load1_per_core", "memory_used", "cpu_iowait", "tcp_close_wait", "disk_io_time")
"""What is read, as far as a fleet has it: metrics that rise in trouble."""
STEPS = 96  # 8 h
LAGS = 9  # an upstream is ahead by 1 to 9 steps of 5 minutes
NEAR = 18  # lags from here on are too long to mean anything
STRIDE = 3
ALPHA = 0.001
CLIP = 6.0
LEAST_STEPS, LEAST_KNOWN = 72, 0.8
EULER = 0.5772156649

Floats = npt.NDArray[np.float32]


class Suspect(NamedTuple):
    """A server that goes ahead of an incident's, and how far its statistic is beyond chance (above 1)."""

    server: str
    strength: float


class Correlator:
    """Finds suspects in the last steps of a fleet.

    Args:
        servers: names.
        values: [metric, server, step], in any unit, NaN where unknown: samples, or what a forecast did not expect.
            Series of which less than 80 % is known count as flat.
    """

    def __init__(self, servers: Sequence[str], values: npt.NDArray[np.floating]) -> None:
        self._servers, self._values = list(servers), values[:, :, -STEPS:]
        self._rows = {name: row for row, name in enumerate(self._servers)}

    def find(self, servers: Sequence[str]) -> Suspect | None:
        """The probable upstream of these servers, not one of them; None where none stands out."""
        rows = np.array(sorted({self._rows[name] for name in servers if name in self._rows}), dtype=np.int64)
        steps = self._values.shape[2]
        if not len(rows) or len(self._servers) <= len(rows) or steps < LEAST_STEPS:
            return None
        longest = steps // 2
        far = (*range(NEAR, longest - LAGS, STRIDE), *range(-longest, -NEAR - LAGS, STRIDE))
        chance = np.array([self._statistic(rows, first).max() for first in far])
        scale = max(float(chance.std()), 1e-6) * np.sqrt(6) / np.pi
        limit = float(chance.mean()) - EULER * scale - scale * np.log(-np.log1p(-ALPHA))
        found = self._statistic(rows, 1)
        head = int(found.argmax())
        return Suspect(self._servers[head], float(found[head] / limit)) if found[head] > limit else None

    @cached_property
    def _stress(self) -> Floats:
        """The highest of a server's metrics at each step, [server, step], of mean 0 and variance 1."""
        highest = np.max([standardised(detrended(values)) for values in self._values], axis=0)
        highest -= highest.mean(axis=1, keepdims=True)
        return np.asarray(highest / np.maximum(highest.std(axis=1, keepdims=True), 1e-6), dtype=np.float32)

    def _statistic(self, rows: npt.NDArray[np.int64], first: int) -> Floats:
        """Of each server [server] against the rows, over the lags from `first` on; a negative lag is behind."""
        stress, steps = self._stress, self._values.shape[2]
        highest = np.full((len(self._servers), len(rows)), -np.inf, dtype=np.float32)
        for lag in range(first, first + LAGS):
            later, earlier = max(lag, 0), max(-lag, 0)
            ahead, behind = slice(earlier, steps - later), slice(later, steps - earlier)
            products = stress[:, ahead] @ stress[rows, behind].T
            np.maximum(highest, products / np.float32(np.sqrt(steps - abs(lag))), out=highest)
        found = highest.sum(axis=1) / np.float32(np.sqrt(len(rows)))
        found[rows] = -np.inf
        return np.asarray(found)


def detrended(values: npt.NDArray[np.floating]) -> Floats:
    """[server, step] without each server's line and each step's median; gaps and series hardly known are 0."""
    known = np.isfinite(values)
    known &= (known.mean(axis=1) >= LEAST_KNOWN)[:, None]
    series = np.where(known, values, np.nan).astype(np.float32)
    if known.any():
        some = known.any(axis=0)
        series[:, some] -= np.nanmedian(series[:, some], axis=0)
    weight, filled = known.astype(np.float32), np.nan_to_num(series)
    count = np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    time = np.arange(series.shape[1], dtype=np.float32)
    own = (time - (weight * time).sum(axis=1, keepdims=True) / count) * weight
    mean = (filled * weight).sum(axis=1, keepdims=True) / count
    slope = (own * filled).sum(axis=1, keepdims=True) / np.maximum((own**2).sum(axis=1, keepdims=True), 1e-9)
    return np.asarray((filled - mean) * weight - slope * own, dtype=np.float32)


def standardised(values: Floats) -> Floats:
    """In median absolute deviations from the median, clipped; at least a quarter of the standard deviation is one."""
    middle = np.median(values, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(values - middle), axis=1, keepdims=True)
    spread = np.maximum(spread, 0.25 * values.std(axis=1, keepdims=True) + 1e-9)
    return np.asarray(np.clip((values - middle) / spread, -CLIP, CLIP), dtype=np.float32)
