"""Windows of a fleet in memory as the tensors of a Temporal Fusion Transformer, a whole batch at once."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.spec import WindowSpec
from fleetcast.windows.tensors import Batch, Samples, WindowBuilder

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Base(Protocol):
    """Untrained quantiles that the network corrects."""

    def at(self, rows: Ints, ends: Ints) -> Floats:
        """Quantiles [batch, horizon, target, level] of servers `rows` with origins at steps `ends`."""


class WindowBatcher:
    """Builds batches of windows of one fleet.

    A window is (row, end): a server and the step of its origin, the last one it may read. Short histories need no
    special case: what lies before the fleet's first step is missing.
    """

    def __init__(self, fleet: FleetArrays, spec: WindowSpec, base: Base | None) -> None:
        self.spec, self.base = spec, base
        self.values, self.states, self.history = fleet.values, fleet.states(), fleet.select(spec.targets)
        self.builder = WindowBuilder(spec, fleet.horizon(spec.horizon))
        self._columns = np.array([fleet.metrics.index(name) if name in fleet.metrics else -1 for name in spec.features])

    def batch(self, rows: Ints, ends: Ints) -> tuple[Batch, Batch]:
        """Inputs and truth of windows (rows[i], ends[i])."""
        return self.inputs(rows, ends), {"truth": self.truth(rows, ends)}

    def inputs(self, rows: Ints, ends: Ints) -> Batch:
        """The network's inputs for windows (rows[i], ends[i]); reads nothing after `ends` but what is known ahead."""
        base = None if self.base is None else self.base.at(rows, ends)
        return self.builder.inputs(self._samples(rows, ends), rows, ends, base)

    def truth(self, rows: Ints, ends: Ints) -> torch.Tensor:
        """What came after the origins, [batch, horizon, target]; NaN where there was no sample."""
        return self.builder.truth(self._samples(rows, ends))

    def expect(self, rows: Ints, ends: Ints) -> None:
        """Nothing: the samples are in memory."""

    def _samples(self, rows: Ints, ends: Ints) -> Samples:
        begins = np.zeros(len(rows), np.int64)
        return Samples(self.values, self._columns, self.states, rows, ends, self.history, ends, begins)
