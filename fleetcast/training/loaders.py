"""Loaders of the windows of a training, for one of several workers.

Workers count the usable windows of an even share of the servers each and tell each other; then each keeps the samples
of the servers whose windows it trains on or validates with (see `WindowStore`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
import numpy.typing as npt

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.contract.vocabulary import STEP_SECONDS, UNKNOWN, profile_codes
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import TrainingError
from fleetcast.model.base import ResidualBase
from fleetcast.training.plan import TrainPlan
from fleetcast.windows.arrays import arrays_by_chunk, planned_spans
from fleetcast.windows.horizon import Horizon
from fleetcast.windows.sampling import Draw, KeptBatches, WindowIndex, WindowLoader, usable_windows
from fleetcast.windows.store import BaseOf, StoredBatcher, WindowStore
from fleetcast.windows.tensors import Samples

VALIDATION_WINDOWS = 1024
WEIGHT_WINDOWS = 512

Ints = npt.NDArray[np.int64]


def make_loaders(
    plan: TrainPlan, rank: int, world: int, gather: Callable[[Ints], Ints] | None = None
) -> tuple[WindowLoader, KeptBatches]:
    """Batches of the training and the validation part for one worker.

    No training window reaches into the validation part, no validation window beyond the cutoff. The validation's
    batches are kept in memory. `gather` gives the rows of all workers' tables; without it this worker counts the
    windows of all servers.

    Raises `TrainingError` when there are fewer windows than workers, `DatasetError` when the data cannot be read or
    the disk has no room for them, `IncompatibleError` when they are of another contract.
    """
    dataset = Dataset.open(plan.data)
    manifest = dataset.manifest
    require_fit(this_contract(plan.window.features), manifest.side(f"the dataset {dataset.location}"))
    training, validation = _windows(dataset, plan, rank, world, gather)
    if len(training) < world or len(validation) < world:
        raise TrainingError(
            f"{len(training)} usable training and {len(validation)} validation windows for {world} workers: too "
            "many samples are missing before the cutoff"
        )
    validation = validation.spread(VALIDATION_WINDOWS)
    wanted = np.zeros(len(manifest.servers), dtype=bool)
    for samples in (plan.samples_per_epoch, WEIGHT_WINDOWS):
        low, high = Draw(len(training), min(samples, len(training)), rank, world).reach
        rows, _ = training.at(np.array([low, max(high - 1, low)]))
        inside = (training.runs[:, 0] >= rows[0]) & (training.runs[:, 0] <= rows[1])
        wanted[training.runs[inside, 0]] = True
    share = Draw(len(validation), len(validation), rank, world)
    wanted[validation.at(np.arange(share.first, share.last))[0]] = True
    batcher = _store(dataset, plan, wanted)
    return (
        WindowLoader(
            batcher, training, plan.batch_size, rank, world, plan.samples_per_epoch, plan.seed, plan.loader_threads
        ),
        KeptBatches(WindowLoader(batcher, validation, plan.batch_size, rank, world)),
    )


def _windows(
    dataset: Dataset, plan: TrainPlan, rank: int, world: int, gather: Callable[[Ints], Ints] | None
) -> tuple[WindowIndex, WindowIndex]:
    """All usable windows of the training and of the validation part."""
    total = len(dataset.manifest.servers)
    mine = np.ones(total, dtype=bool)
    if gather is not None:
        mine[:] = False
        mine[rank * total // world : (rank + 1) * total // world] = True
    border, horizon = _step(plan, plan.validation_start), plan.window.horizon
    found = [np.empty((0, 4), np.int64)]
    for first, fleet in arrays_by_chunk(dataset, mine, plan.cutoff, plan.window.targets):
        for part, (low, high) in enumerate(
            ((plan.window.context - 1, border - horizon), (border, fleet.steps - 1 - horizon))
        ):
            runs = usable_windows(fleet, plan.window, low, high).runs
            found.append(np.column_stack([np.full(len(runs), part), runs + np.array([first, 0, 0])]))
    runs = np.concatenate(found)
    runs = runs if gather is None else gather(runs)
    training, validation = (WindowIndex(runs[runs[:, 0] == part, 1:]) for part in (0, 1))
    return training, validation


def _store(dataset: Dataset, plan: TrainPlan, wanted: npt.NDArray[np.bool_]) -> StoredBatcher:
    """Batches of the wanted servers' windows, of samples up to the cutoff."""
    manifest = dataset.manifest
    steps = _step(plan, plan.cutoff) + 1
    store = WindowStore(plan.window, np.flatnonzero(wanted), steps)
    profiles = np.full(len(wanted), UNKNOWN, dtype=object)
    for first, fleet in arrays_by_chunk(dataset, wanted, plan.cutoff, manifest.metrics):
        store.write(first, fleet)
        profiles[first : first + len(fleet.servers)] = fleet.profiles
    start = int(manifest.start.timestamp())
    planned = planned_spans(manifest.servers, dataset.maintenance(), start, 0, steps + plan.window.horizon)
    known = Horizon(start, steps, manifest.timezone, profile_codes(profiles.tolist()), *planned)
    return StoredBatcher(store, plan.window, known, _base_of(plan) if plan.network.head == "floor" else None)


def _base_of(plan: TrainPlan) -> BaseOf:
    window = plan.window

    def base_of(samples: Samples, starts: Ints) -> ResidualBase:
        return ResidualBase(
            samples.history, starts, window.horizon, window.levels, window.floor_leads, begins=samples.begins
        )

    return base_of


def _step(plan: TrainPlan, moment: datetime) -> int:
    """Position of a grid time on the dataset's time axis."""
    return int((moment - plan.start).total_seconds()) // STEP_SECONDS
