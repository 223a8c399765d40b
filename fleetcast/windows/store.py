"""Samples of more servers than fit in memory, in an unnamed file, and batches of windows read from it.

The file belongs to one process, has no name that another could open, and is gone when the process ends, however it
ends. What is read goes through buffers of one batch: nothing is mapped into memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import DatasetError
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.batches import Base
from fleetcast.windows.horizon import Horizon
from fleetcast.windows.reading import read_stretches
from fleetcast.windows.spec import WindowSpec
from fleetcast.windows.tensors import Batch, Samples, WindowBuilder

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BIG_FILES = "/var/tmp"  # on disk where /tmp may be in memory
ITEM = np.dtype(np.float32).itemsize


class WindowStore:
    """Samples of some of a fleet's servers, float32: the targets' in one table of the file, all others' in another.

    `HISTORY` is [server, time, target], `OTHERS` [server, time, feature that is no target + 1], the last column being
    the state's code: windows need a longer stretch of the first one.
    """

    HISTORY, OTHERS = 0, 1

    def __init__(self, spec: WindowSpec, servers: Ints, steps: int) -> None:
        """`servers` are their positions in the fleet, ascending. Raises `DatasetError` when the disk has no room."""
        self.spec, self.steps = spec, steps
        self.others = tuple(name for name in spec.features if name not in spec.targets)
        self.widths = (len(spec.targets), len(self.others) + 1)
        self.servers = servers
        self.places = {int(server): place for place, server in enumerate(servers)}
        folder = _folder()
        needed, free = len(servers) * steps * sum(self.widths) * ITEM, shutil.disk_usage(folder).free
        if needed > free:
            raise DatasetError(
                f"the samples of {len(servers):,} servers need {needed / 1e9:.1f} GB in {folder}, which has "
                f"{free / 1e9:.1f} GB free: set TMPDIR to a folder with more"
            )
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (as long as the store)
        self._number = self._file.fileno()
        os.ftruncate(self._number, needed)
        self._begins = (0, len(servers) * steps * self.widths[0] * ITEM)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.slow = hasattr(os, "posix_fadvise") and needed > memory // 8  # smaller files stay in the system's cache

    def write(self, server: int, fleet: FleetArrays) -> None:
        """Keep the samples of a fleet's servers, which are `server` and those after it in the store.

        Raises `DatasetError` when the disk is full.
        """
        others = np.empty((len(fleet.servers), self.steps, self.widths[1]), np.float32)
        others[:, :, :-1] = fleet.select(self.others)
        others[:, :, -1] = fleet.states()
        for table, block in ((self.HISTORY, fleet.select(self.spec.targets)), (self.OTHERS, others)):
            left, at = memoryview(block.data).cast("B"), self._at(table, server, 0)
            try:
                while left:
                    done = os.pwrite(self._number, left, at)
                    left, at = left[done:], at + done
            except OSError as error:
                message = f"cannot keep samples in {_folder()}: {error}; set TMPDIR to another folder"
                raise DatasetError(message) from error

    def read(self, table: int, servers: Ints, firsts: Ints, into: Floats) -> None:
        """Steps from `firsts` on of each of the servers, [stretch, time, column].

        What lies outside of the time axis is missing, its state 0. Raises `DatasetError` for a server that is not kept
        here, and when the file cannot be read.
        """
        outside = np.float32(0 if table == self.OTHERS else np.nan)
        places = np.minimum(np.searchsorted(self.servers, servers), len(self.servers) - 1)
        if (self.servers[places] != servers).any():
            raise DatasetError(f"the samples of server {servers[self.servers[places] != servers][0]} are not kept here")
        failed = read_stretches(self._number, self._begins[table], self.steps, places, firsts, outside, into)
        if failed >= 0:
            raise DatasetError(f"the kept samples of server {servers[failed]} cannot be read back from their file")

    def expect(self, table: int, server: int, first: int, steps: int) -> None:
        """Have the disk read what is needed soon; of use where the store is `slow`, and the system can be asked to."""
        low, high = max(first, 0), min(first + steps, self.steps)
        size = (high - low) * self.widths[table] * ITEM
        os.posix_fadvise(self._number, self._at(table, server, low), size, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def _at(self, table: int, server: int, step: int) -> int:
        return self._begins[table] + (self.places[server] * self.steps + step) * self.widths[table] * ITEM


BaseOf = Callable[[Samples, Ints], Base]  # of samples, and the Unix seconds of each series' first step


class StoredBatcher:
    """Builds batches of windows (server, end) of a store.

    A window reads `history_steps` of its targets up to its origin, as a forecast in service does, or the encoder's
    alone where nothing asks for more, and what follows it; of other features the encoder's steps. Several threads may
    ask for batches at once.
    """

    def __init__(self, store: WindowStore, spec: WindowSpec, known: Horizon, base_of: BaseOf | None) -> None:
        self.store, self.spec, self.base_of = store, spec, base_of
        self.builder = WindowBuilder(spec, known)
        self.past = spec.history_steps if spec.day_lags or base_of is not None else spec.context
        self._steps = (self.past + spec.horizon, spec.context)
        self._columns = np.array([store.others.index(name) if name in store.others else -1 for name in spec.features])
        self._own = threading.local()  # each thread's buffers

    def batch(self, rows: Ints, ends: Ints) -> tuple[Batch, Batch]:
        """Inputs and truth of windows of servers `rows` with origins at steps `ends`."""
        size, firsts = len(rows), ends - self.past + 1
        history, others = self._buffers(size)
        self.store.read(WindowStore.HISTORY, rows, firsts, history)
        self.store.read(WindowStore.OTHERS, rows, ends - self.spec.context + 1, others)
        places, origins = np.arange(size), np.full(size, self.past - 1)
        samples = Samples(
            others, self._columns, others[:, :, -1], places, np.full(size, self.spec.context - 1),
            history, origins, np.maximum(-firsts, 0),
        )  # fmt: skip
        base = None
        if self.base_of is not None:
            base = self.base_of(samples, self.builder.known.start + STEP_SECONDS * firsts).at(places, origins)
        return self.builder.inputs(samples, rows, ends, base), {"truth": self.builder.truth(samples)}

    def expect(self, rows: Ints, ends: Ints) -> None:
        """Have the disk read these windows."""
        if not self.store.slow:
            return
        for server, end in zip(rows.tolist(), ends.tolist(), strict=True):
            for table, past in ((WindowStore.HISTORY, self.past), (WindowStore.OTHERS, self.spec.context)):
                self.store.expect(table, server, end - past + 1, self._steps[table])

    def _buffers(self, size: int) -> list[Floats]:
        """This thread's buffers of both tables for so many windows."""
        kept: list[Floats] = getattr(self._own, "buffers", [])
        if not kept or len(kept[0]) < size:
            sides = zip(self._steps, self.store.widths, strict=True)
            kept = self._own.buffers = [np.empty((size, steps, width), np.float32) for steps, width in sides]
        return [buffer[:size] for buffer in kept]


def _folder() -> str:
    """Where big files go: TMPDIR, else a folder on disk, else where temporary files go."""
    if "TMPDIR" not in os.environ and os.access(BIG_FILES, os.W_OK):
        return BIG_FILES
    return tempfile.gettempdir()
