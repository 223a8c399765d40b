"""Scales of the observations-only reference: each metric as standard deviations from its profile's mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fleetcast.contract.metrics import default_targets, metric
from fleetcast.contract.thresholds import threshold_matrix
from fleetcast.contract.vocabulary import PROFILES
from fleetcast.errors import UsageError

CODES = len(PROFILES) + 1
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scales:
    """Mean and standard deviation of each metric by profile code, both [8, metric], after the logarithm.

    Metrics in other units than ratios are taken as log(1 + x), the targets as they are.
    """

    metrics: tuple[str, ...]
    mean: Floats
    spread: Floats

    @classmethod
    def of(cls, values: Floats, metrics: tuple[str, ...], profiles: npt.NDArray[np.int64]) -> Scales:
        """Scales of values [server, time, metric]; a few hundred servers of each profile tell enough."""
        mean, spread = np.zeros((2, CODES, len(metrics)), np.float32)
        unscaled = cls(metrics, mean, spread + 1)
        for code in np.unique(profiles):
            rows = np.flatnonzero(profiles == code)[:300]
            some = unscaled.compress(values[rows, ::7].reshape(-1, len(metrics)).astype(np.float64))
            known = ~np.isnan(some)
            count = np.maximum(known.sum(axis=0), 1)
            mean[code] = np.where(known, some, 0).sum(axis=0) / count
            spread[code] = np.sqrt((np.where(known, some - mean[code], 0) ** 2).sum(axis=0) / count)
        return cls(metrics, mean, np.maximum(spread, 1e-6 + 1e-4 * np.abs(mean)))

    @property
    def targets(self) -> list[int]:
        """Positions of the forecast targets among the metrics."""
        return [self.metrics.index(name) for name in default_targets(self.metrics)]

    def compress(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """The logarithm of what has no natural upper bound; values [..., metric] are changed in place."""
        targets = self.targets
        for position, name in enumerate(self.metrics):
            if not metric(name).is_ratio and position not in targets:
                values[..., position] = np.log1p(values[..., position])
        return values

    def limits(self) -> tuple[list[int], Tensor]:
        """Positions of the metrics with a critical threshold and that threshold, scaled, [profile code, metric]."""
        scaled = (self.compress(threshold_matrix(self.metrics)) - self.mean) / self.spread
        positions = [position for position in range(len(self.metrics)) if np.isfinite(scaled[0, position])]
        return positions, torch.from_numpy(scaled[:, positions].astype(np.float32))


def highest(values: Floats, metrics: tuple[str, ...]) -> Floats:
    """The highest value of each target in the corpus."""
    targets = default_targets(metrics)
    found = np.array([np.fmax.reduce(values[:, :, metrics.index(name)], axis=None) for name in targets], np.float32)
    unseen = [name for name, value in zip(targets, found, strict=True) if np.isnan(value)]
    if unseen:
        raise UsageError(f"the corpus has no sample of {', '.join(unseen)}; leave the metric out")
    return found
