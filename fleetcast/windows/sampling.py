"""Which windows of a fleet can be trained on, which of them an epoch draws, and how workers share them."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.spec import OBSERVED_SHARE, STALE_STEPS, WindowSpec
from fleetcast.windows.tensors import Batch

Ints = npt.NDArray[np.int64]

AHEAD = 4  # batches whose samples are asked of the disk before they are needed


class Batcher(Protocol):
    """Builds batches of windows (rows[i], ends[i]): a server and the step of its origin."""

    def batch(self, rows: Ints, ends: Ints) -> tuple[Batch, Batch]:
        """Inputs and truth."""

    def expect(self, rows: Ints, ends: Ints) -> None:
        """These windows are asked for soon."""


@dataclass(frozen=True)
class WindowIndex:
    """Windows as runs of origins that follow each other, [run, (row, first end, number of ends)], rows ascending.

    A window has a position, from 0 to the number of windows; none is listed.
    """

    runs: Ints

    @classmethod
    def of(cls, windows: Sequence[WindowIndex]) -> WindowIndex:
        """All windows of several indices."""
        runs = np.concatenate([one.runs for one in windows])
        return cls(runs[np.lexsort((runs[:, 1], runs[:, 0]))])

    def __len__(self) -> int:
        return int(self.runs[:, 2].sum())

    def at(self, positions: Ints) -> tuple[Ints, Ints]:
        """(rows, ends) of the windows at these positions."""
        lasts = np.cumsum(self.runs[:, 2])
        run = np.searchsorted(lasts, positions, side="right")
        rows, firsts, lengths = self.runs[run].T
        return rows.copy(), firsts + positions - (lasts[run] - lengths)

    def all(self) -> tuple[Ints, Ints]:
        """(rows, ends) of every window."""
        return self.at(np.arange(len(self)))

    def spread(self, most: int) -> WindowIndex:
        """At most that many of the windows, evenly spread."""
        total = len(self)
        rows, ends = self.at(np.linspace(0, total - 1, min(most, total)).astype(np.int64))
        return WindowIndex(np.stack([rows, ends, np.ones_like(rows)], axis=1))


def usable_windows(fleet: FleetArrays, spec: WindowSpec, first_end: int, last_end: int) -> WindowIndex:
    """The windows with origins at steps first_end..last_end that can be learnt from.

    For some target at least half of the encoder is observed, the last half hour too, and something of the horizon.
    """
    last_end = min(last_end, fleet.steps - 2)
    if last_end < first_end:
        return WindowIndex(np.empty((0, 3), np.int64))
    ends = np.arange(first_end, last_end + 1)
    usable = np.zeros((len(fleet.servers), len(ends) + 2), np.int8)  # a border of windows that are not
    counts = np.zeros((len(fleet.servers), fleet.steps + 1), np.int32)
    for name in spec.targets:
        np.cumsum(np.isfinite(fleet.select([name])[:, :, 0]), axis=1, out=counts[:, 1:])

        def observed(first: Ints, last: Ints) -> npt.NDArray[np.int32]:
            """Samples of steps first..last by server."""
            low, high = np.clip(first, 0, fleet.steps), np.clip(last + 1, 0, fleet.steps)
            return np.asarray(counts[:, high] - counts[:, low])

        enough = observed(ends - spec.context + 1, ends) >= OBSERVED_SHARE * spec.context
        fresh = observed(ends - STALE_STEPS, ends) > 0
        usable[:, 1:-1] |= enough & fresh & (observed(ends + 1, ends + spec.horizon) > 0)
    rows, begins = np.nonzero(np.diff(usable, axis=1) == 1)
    _, stops = np.nonzero(np.diff(usable, axis=1) == -1)
    return WindowIndex(np.stack([rows, begins + first_end, stops - begins], axis=1).astype(np.int64))


@dataclass(frozen=True)
class Draw:
    """`samples` of `total` windows: one of each of as many equal stretches of positions.

    So each window is as likely as any other, none comes twice, and every server has its share. Worker `rank` of
    `world` gets the stretches with numbers first..last-1, which never leave its part of the positions.
    """

    total: int
    samples: int
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> int:
        """Number of this worker's first stretch."""
        return self.rank * self.samples // self.world

    @property
    def last(self) -> int:
        """Number of the first stretch after this worker's."""
        return (self.rank + 1) * self.samples // self.world

    @property
    def reach(self) -> tuple[int, int]:
        """This worker's part of the positions: the first one, and the first one after it."""
        return self._begin(self.first), self._begin(self.last)

    def positions(self, *key: int) -> Ints:
        """This worker's windows, ascending: a function of the key, of which each worker makes its part."""
        edges = np.arange(self.samples + 1) * self.total // self.samples
        drawn = np.random.default_rng(key).integers(edges[:-1], edges[1:])
        return drawn[self.first : self.last]

    def _begin(self, stretch: int) -> int:
        return stretch * self.total // self.samples


class WindowLoader:
    """Batches of (inputs, truth) of one epoch for one of several workers; a window is seen by one of them.

    Training draws `samples` windows without repeats, differently each epoch (see `Draw`), the same ones whatever the
    number of workers; without `samples` all windows come in order, which is what validation wants. Workers wait for
    each other, so each has equally many batches, which may differ by one window. `epoch` and `skip_batches` (how many
    of this worker's batches to leave out at the epoch's start) may be set before each iteration.
    """

    def __init__(
        self,
        batcher: Batcher,
        windows: WindowIndex,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        samples: int | None = None,
        seed: int = 0,
        threads: int = 0,
    ) -> None:
        """`windows` must be at least as many as there are workers.

        So many `threads` make batches ahead of whoever takes them, in the same order; without any a batch is made when
        it is asked for.
        """
        self.batcher, self.windows, self.batch_size = batcher, windows, batch_size
        self.rank, self.world, self.samples, self.seed = rank, world, samples, seed
        self.epoch = self.skip_batches = 0
        self.threads = threads
        self.draw = self.draw_of(len(windows) if samples is None else samples)

    def draw_of(self, samples: int) -> Draw:
        """This worker's part of a draw of some of the windows; of all, where there are not as many."""
        total = len(self.windows)
        return Draw(total, min(samples, total), self.rank, self.world)

    def __len__(self) -> int:
        """Batches of an epoch, the same for all workers."""
        most = math.ceil(self.draw.samples / self.world)
        return min(math.ceil(most / self.batch_size), self.draw.samples // self.world)

    def indices(self) -> Ints:
        """Positions of this worker's windows in this epoch, in their order."""
        if self.samples is None:
            return np.arange(self.draw.first, self.draw.last)
        drawn = self.draw.positions(self.seed, self.epoch)
        return np.random.default_rng((self.seed, self.epoch, self.rank)).permutation(drawn)

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        rows, ends = self.windows.at(self.indices())
        edges = [number * len(rows) // len(self) for number in range(len(self) + 1)]
        batches = [(rows[first:last], ends[first:last]) for first, last in itertools.pairwise(edges)]
        if not self.threads:
            yield from (self.batcher.batch(*batch) for batch in self._announced(batches[self.skip_batches :]))
            return
        pool = ThreadPoolExecutor(self.threads, "loader")
        try:
            made: deque[Future[tuple[Batch, Batch]]] = deque()
            for batch in self._announced(batches[self.skip_batches :]):
                made.append(pool.submit(self.batcher.batch, *batch))
                if len(made) > 2 * self.threads:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _announced(self, batches: Sequence[tuple[Ints, Ints]]) -> Iterator[tuple[Ints, Ints]]:
        """The batches, of each of which the batcher is told a little earlier."""
        for number, batch in enumerate(batches):
            for ahead in batches[: AHEAD + 1] if number == 0 else batches[number + AHEAD : number + AHEAD + 1]:
                self.batcher.expect(*ahead)
            yield batch


class KeptBatches:
    """The batches of a loader, made once and kept."""

    def __init__(self, loader: WindowLoader) -> None:
        self.batches = list(loader)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        return iter(self.batches)
