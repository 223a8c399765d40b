"""Where a backtest takes its servers from: a few at a time, so that a fleet need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import EvaluationError
from fleetcast.windows.arrays import FleetArrays, arrays_by_chunk

CHUNK_SERVERS = 128


class FleetSource(Protocol):
    """Servers on one time axis of `steps` steps that begins at `start` (Unix seconds)."""

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of all servers, in the order of the chunks."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that there are."""

    @property
    def start(self) -> int:
        """Unix seconds of the first step."""

    @property
    def steps(self) -> int:
        """Length of the time axis."""

    def chunks(self) -> Iterator[FleetArrays]:
        """All servers, a few at a time, each chunk over the whole time axis; can be called again."""

    def of(self, rows: Sequence[int]) -> FleetArrays:
        """Some servers, by ascending positions."""


@dataclass(frozen=True)
class ArraysSource:
    """A fleet in memory."""

    fleet: FleetArrays
    size: int = CHUNK_SERVERS

    @property
    def servers(self) -> tuple[str, ...]:
        """As `FleetSource`."""
        return self.fleet.servers

    @property
    def metrics(self) -> tuple[str, ...]:
        """As `FleetSource`."""
        return self.fleet.metrics

    @property
    def start(self) -> int:
        """As `FleetSource`."""
        return self.fleet.start

    @property
    def steps(self) -> int:
        """As `FleetSource`."""
        return self.fleet.steps

    def chunks(self) -> Iterator[FleetArrays]:
        """As `FleetSource`; one chunk where the fleet is small."""
        return _pieces(self.fleet, self.size)

    def of(self, rows: Sequence[int]) -> FleetArrays:
        """As `FleetSource`."""
        return self.fleet.of_servers(rows)


class DatasetSource:
    """A dataset, read by chunks of servers; `keep` says of each server in the manifest's order whether it counts."""

    def __init__(self, dataset: Dataset, keep: npt.NDArray[np.bool_] | None = None, size: int = CHUNK_SERVERS) -> None:
        """Raises `IncompatibleError` for a dataset of another contract, `EvaluationError` when no server is left."""
        manifest = dataset.manifest
        require_fit(this_contract(manifest.metrics), manifest.side(f"the dataset {dataset.location}"))
        names = manifest.servers
        self.keep = np.ones(len(names), bool) if keep is None else keep
        if not self.keep.any():
            raise EvaluationError(f"no server of {dataset.location} is left to score")
        self.servers = tuple(name for name, wanted in zip(names, self.keep, strict=True) if wanted)
        self.dataset, self.size = dataset, size
        self.metrics = tuple(manifest.metrics)
        self.start = int(manifest.start.timestamp())
        self.steps = (int(manifest.end.timestamp()) - self.start) // STEP_SECONDS + 1

    def chunks(self) -> Iterator[FleetArrays]:
        """As `FleetSource`."""
        yield from self._read(self.keep)

    def of(self, rows: Sequence[int]) -> FleetArrays:
        """As `FleetSource`."""
        wanted = np.zeros(len(self.keep), bool)
        wanted[np.flatnonzero(self.keep)[list(rows)]] = True
        return joined(list(self._read(wanted)))

    def _read(self, wanted: npt.NDArray[np.bool_]) -> Iterator[FleetArrays]:
        manifest = self.dataset.manifest
        for _, fleet in arrays_by_chunk(self.dataset, wanted, manifest.end, manifest.metrics):
            yield from _pieces(fleet, self.size)


def joined(fleets: Sequence[FleetArrays]) -> FleetArrays:
    """Fleets of different servers on one time axis as one."""
    first = fleets[0]
    return FleetArrays(
        tuple(server for fleet in fleets for server in fleet.servers),
        tuple(profile for fleet in fleets for profile in fleet.profiles),
        first.metrics,
        first.start,
        np.concatenate([fleet.values for fleet in fleets]) if len(fleets) > 1 else first.values,
        first.maintenance,
        first.timezone,
    )


def _pieces(fleet: FleetArrays, size: int) -> Iterator[FleetArrays]:
    if len(fleet.servers) <= size:
        yield fleet
        return
    for first in range(0, len(fleet.servers), size):
        yield fleet.of_servers(np.arange(first, min(first + size, len(fleet.servers))))
