"""Samples of more servers than fit in memory, in an unnamed file, and batches of windows read from it.

The file belongs to one process, has no name that another could open, and is gone when the process ends, however it
ends. What is read goes through buffers of one batch: nothing is mapped into memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import DatasetError
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.batches import Base
from fleetcast.windows.spec import WindowSpec
from fleetcast.windows.tensors import Batch, Horizon, Samples, WindowBuilder

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BIG_FILES = "/var/tmp"  # on disk where /tmp may be in memory
ITEM = np.dtype(np.float32).itemsize


class WindowStore:
    """float32 [server, time, feature + 1] of some of a fleet's servers; the last column is the state's code."""

    def __init__(self, spec: WindowSpec, servers: Ints, steps: int) -> None:
        """`servers` are their positions in the fleet, ascending. Raises `DatasetError` when the disk has no room."""
        self.spec, self.steps, self.width = spec, steps, len(spec.features) + 1
        self.servers = servers
        self.places = {int(server): place for place, server in enumerate(servers)}
        folder = _folder()
        needed, free = len(servers) * self._stride, shutil.disk_usage(folder).free
        if needed > free:
            raise DatasetError(
                f"the samples of {len(servers):,} servers need {needed / 1e9:.1f} GB in {folder}, which has "
                f"{free / 1e9:.1f} GB free: set TMPDIR to a folder with more"
            )
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (as long as the store)
        os.ftruncate(self._file.fileno(), needed)

    @property
    def _stride(self) -> int:
        """Bytes of a server."""
        return self.steps * self.width * ITEM

    def write(self, server: int, fleet: FleetArrays) -> None:
        """Keep the samples of a fleet's servers, which are `server` and those after it in the store.

        Raises `DatasetError` when the disk is full.
        """
        block = np.empty((len(fleet.servers), self.steps, self.width), np.float32)
        block[:, :, :-1] = fleet.select(self.spec.features)
        block[:, :, -1] = fleet.states()
        left, at = memoryview(block.data).cast("B"), self.places[server] * self._stride
        try:
            while left:
                done = os.pwrite(self._file.fileno(), left, at)
                left, at = left[done:], at + done
        except OSError as error:
            raise DatasetError(f"cannot keep samples in {_folder()}: {error}; set TMPDIR to another folder") from error

    def read(self, server: int, first: int, into: Floats) -> None:
        """Steps from `first` on of one server, [time, feature + 1]; missing outside of the time axis."""
        low, high = max(first, 0), min(first + len(into), self.steps)
        for outside in (into[: low - first], into[max(high - first, 0) :]):
            outside[:] = np.nan
            outside[:, -1] = 0
        inside = memoryview(into[low - first : high - first].data).cast("B")
        found = os.preadv(self._file.fileno(), [inside], self._at(server, low))
        if found != len(inside):
            raise DatasetError(f"the kept samples of server {server} are damaged: {found} bytes of {len(inside)}")

    def expect(self, server: int, first: int, steps: int) -> None:
        """Have the disk read what is needed soon, where the system can be asked to."""
        if hasattr(os, "posix_fadvise"):
            low, high = max(first, 0), min(first + steps, self.steps)
            size = (high - low) * self.width * ITEM
            os.posix_fadvise(self._file.fileno(), self._at(server, low), size, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Give the disk back."""
        self._file.close()

    def _at(self, server: int, step: int) -> int:
        return self.places[server] * self._stride + step * self.width * ITEM


BaseOf = Callable[[Samples, Ints], Base]  # of samples, and the Unix seconds of each series' first step


class StoredBatcher:
    """Builds batches of windows (server, end) of a store.

    A window reads `history_steps` up to its origin, as a forecast in service does, or the encoder's alone where nothing
    asks for more.
    """

    def __init__(self, store: WindowStore, spec: WindowSpec, known: Horizon, base_of: BaseOf | None) -> None:
        self.store, self.spec, self.base_of = store, spec, base_of
        self.builder = WindowBuilder(spec, known)
        self.past = spec.history_steps if spec.day_lags or base_of is not None else spec.context
        self._buffer = np.empty((0, self.past + spec.horizon, store.width), np.float32)

    def batch(self, rows: Ints, ends: Ints) -> tuple[Batch, Batch]:
        """Inputs and truth of windows of servers `rows` with origins at steps `ends`."""
        firsts = ends - self.past + 1
        if len(self._buffer) < len(rows):
            self._buffer = np.empty((len(rows), *self._buffer.shape[1:]), np.float32)
        for place, (server, first) in enumerate(zip(rows.tolist(), firsts.tolist(), strict=True)):
            self.store.read(server, first, self._buffer[place])
        block, places = self._buffer[: len(rows)], np.arange(len(rows))
        origins, begins = np.full(len(rows), self.past - 1), np.maximum(-firsts, 0)
        columns = np.arange(len(self.spec.features))
        samples = Samples(block, columns, block[:, :, -1], places, origins, begins)
        base = None
        if self.base_of is not None:
            base = self.base_of(samples, self.builder.known.start + STEP_SECONDS * firsts).at(places, origins)
        return self.builder.inputs(samples, rows, ends, base), {"truth": self.builder.truth(samples)}

    def expect(self, rows: Ints, ends: Ints) -> None:
        """Have the disk read these windows."""
        for server, end in zip(rows.tolist(), ends.tolist(), strict=True):
            self.store.expect(server, end - self.past + 1, self.past + self.spec.horizon)


def _folder() -> str:
    """Where big files go: TMPDIR, else a folder on disk, else where temporary files go."""
    if "TMPDIR" not in os.environ and os.access(BIG_FILES, os.W_OK):
        return BIG_FILES
    return tempfile.gettempdir()
