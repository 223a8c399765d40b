"""Windows drawn from a simulated corpus, with what followed them, to fit the observations-only reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.simulate.reference.features import Fleet
from fleetcast.simulate.reference.network import BATCH, OnsetNetwork, calibrate_onsets, fit_onsets
from fleetcast.simulate.reference.scales import Floats

RISK_STEPS = (STEPS_PER_HOUR // 2, 2 * STEPS_PER_HOUR, 8 * STEPS_PER_HOUR)
POSITIVE_SHARE, NEGATIVE_SHARE = 0.15, 0.30  # windows with and without an onset that the risk is learnt on, of all
FEWEST = 100  # windows of either sort that something can be learnt from
CALIBRATION_SHARE = 0.1  # servers kept for the calibration of the risk
CHUNK = 1024  # windows whose features are made at a time

Integers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Corpus:
    """Random windows of a corpus with its truth; origins lie within `span`, both ends included."""

    fleet: Fleet
    values: Floats
    onsets: npt.NDArray[np.bool_]
    span: tuple[int, int]
    horizon: int
    generator: np.random.Generator

    def anywhere(self, count: int) -> tuple[Integers, Integers]:
        """Servers and origins, each [count]."""
        servers = self.generator.integers(len(self.values), size=count)
        return servers, self.generator.integers(self.span[0], self.span[1] + 1, size=count)

    def features(self, servers: Integers, origins: Integers) -> tuple[Tensor, Tensor, Tensor]:
        """As `Fleet.features`."""
        return self.fleet.features(torch.as_tensor(servers), torch.as_tensor(origins), self.horizon)

    def batches(self, steps: int) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]]:
        """Inputs, scaled truth [window, target, step] and the scale's spread [window, target]."""
        scales, targets = self.fleet.scales, np.array(self.fleet.targets)
        for _ in range(steps):
            servers, origins = self.anywhere(BATCH)
            ahead = origins[:, None] + np.arange(1, self.horizon + 1)
            truth = self.values[servers[:, None, None], ahead[:, None], targets[None, :, None]]
            code = self.fleet.profile.numpy()[servers]
            mean, spread = scales.mean[code][:, targets], scales.spread[code][:, targets]
            scaled = torch.from_numpy((truth - mean[..., None]) / spread[..., None])
            yield self.features(servers, origins), scaled, torch.from_numpy(spread)

    def risk(self, windows: int, sample: Tensor) -> tuple[npt.NDArray[np.float64], OnsetNetwork | None]:
        """Base rates [3] and a network of the probabilities; None where there are too few onsets to learn from."""
        labels = self._labels()
        rates = (labels.sum(axis=(0, 1)) + 0.5) / (labels[..., 0].size + 1.0)
        kept = self.generator.random(len(labels)) < CALIBRATION_SHARE
        fitted, others = self._stratum(labels, ~kept, windows), self._stratum(labels, kept, windows // 8)
        if fitted is None:
            return rates, None
        network = OnsetNetwork(sample, len(RISK_STEPS))
        fit_onsets(network, *fitted)
        if others is not None:
            calibrate_onsets(network, *others)
        return rates, network

    def _stratum(
        self, labels: npt.NDArray[np.bool_], servers: npt.NDArray[np.bool_], windows: int
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Features (half precision), labels and weights of windows of these servers [server], rich in onsets.

        The weights undo the riches; None where there is too little of either.
        """
        soon = labels[..., -1]
        groups = [np.flatnonzero(group & servers[:, None]) for group in (soon, ~soon)]
        shares = (POSITIVE_SHARE, NEGATIVE_SHARE)
        picked = [self._some(group, int(windows * share)) for group, share in zip(groups, shares, strict=True)]
        if min(map(len, picked)) < FEWEST:
            return None
        row, offset = np.divmod(np.concatenate(picked), labels.shape[1])
        weight = np.concatenate([np.full(len(own), len(of) / len(own)) for own, of in zip(picked, groups, strict=True)])
        features = self._half(row, offset + self.span[0])
        truth = torch.from_numpy(labels[row, offset].astype(np.float32))
        return features, truth, torch.from_numpy((weight / weight.mean()).astype(np.float32))

    def _half(self, servers: Integers, origins: Integers) -> Tensor:
        """The features alone, in half precision."""
        width = self.features(servers[:1], origins[:1])[0].shape[1]
        found = torch.empty(len(servers), width, dtype=torch.half)
        for at in range(0, len(servers), CHUNK):
            found[at : at + CHUNK] = self.features(servers[at : at + CHUNK], origins[at : at + CHUNK])[0]
        return found

    def _labels(self) -> npt.NDArray[np.bool_]:
        """Whether an onset follows within each of `RISK_STEPS` [server, origin of the span, 3]."""
        first, last = self.span
        before = np.pad(np.cumsum(self.onsets, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
        start = before[:, first + 1 : last + 2]
        return np.stack([before[:, first + 1 + n : last + 2 + n] > start for n in RISK_STEPS], axis=-1)

    def _some(self, of: Integers, count: int) -> Integers:
        return of if len(of) <= count else self.generator.choice(of, count, replace=False)
