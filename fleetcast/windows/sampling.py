"""Which windows of a fleet can be trained on, and how workers share them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.batches import Batch, WindowBatcher
from fleetcast.windows.spec import OBSERVED_SHARE, STALE_STEPS, WindowSpec

Ints = npt.NDArray[np.int64]


def usable_windows(fleet: FleetArrays, spec: WindowSpec, first_end: int, last_end: int) -> tuple[Ints, Ints]:
    """(rows, ends) of the windows with origins at steps first_end..last_end that can be learnt from.

    For some target at least half of the encoder is observed, the last half hour too, and something of the horizon.
    """
    seen = np.isfinite(fleet.select(spec.targets))
    counts = np.cumsum(np.pad(seen.astype(np.int64), ((0, 0), (1, 0), (0, 0))), axis=1)
    last_end = min(last_end, fleet.steps - 2)
    if last_end < first_end:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    ends = np.arange(first_end, last_end + 1)

    def observed(first: Ints, last: Ints) -> npt.NDArray[np.int64]:
        """Samples of steps first..last by server and target."""
        return np.asarray(counts[:, np.clip(last + 1, 0, fleet.steps)] - counts[:, np.clip(first, 0, fleet.steps)])

    enough = observed(ends - spec.context + 1, ends) >= OBSERVED_SHARE * spec.context
    fresh = observed(ends - STALE_STEPS, ends) > 0
    ahead = observed(ends + 1, ends + spec.horizon) > 0
    rows, columns = np.nonzero((enough & fresh & ahead).any(axis=2))
    return rows.astype(np.int64), ends[columns].astype(np.int64)


class WindowLoader:
    """Batches of (inputs, truth) of one epoch for one of several workers; a window is seen by one of them.

    Training draws `samples` windows without repeats, differently each epoch; without `samples` all windows come in
    order, which is what validation wants. Workers wait for each other, so each has equally many: where the number does
    not divide, up to `world` - 1 windows are left out. `epoch` and `skip_batches` (how many of this worker's batches to
    leave out at the epoch's start) may be set before each iteration.
    """

    def __init__(
        self,
        batcher: WindowBatcher,
        windows: tuple[Ints, Ints],
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        self.batcher, self.windows, self.batch_size = batcher, windows, batch_size
        self.rank, self.world, self.samples, self.seed = rank, world, samples, seed
        self.epoch = self.skip_batches = 0

    def __len__(self) -> int:
        return math.ceil(self._drawn() // self.world / self.batch_size)

    def _drawn(self) -> int:
        """Windows of all workers in an epoch, before what does not divide is left out."""
        total = len(self.windows[0])
        return total if self.samples is None else min(self.samples, total)

    def indices(self) -> Ints:
        """Positions of this worker's windows in this epoch; equally many for every worker."""
        total = len(self.windows[0])
        order = np.arange(total)
        if self.samples is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(total)
        usable = self._drawn() // self.world * self.world
        return np.asarray(order[:usable][self.rank :: self.world])

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        mine = self.indices()
        for first in range(self.skip_batches * self.batch_size, len(mine), self.batch_size):
            picked = mine[first : first + self.batch_size]
            rows, ends = self.windows[0][picked], self.windows[1][picked]
            yield self.batcher.inputs(rows, ends), {"truth": self.batcher.truth(rows, ends)}
