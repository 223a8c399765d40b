"""Samples as a real collector delivers them, for testing: some lost, some late and out of order, some twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.optimize import brentq

from fleetcast.compiling import compiled_and_kept
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.storage import Storage
from fleetcast.simulate.arithmetic import F
from fleetcast.simulate.randomness import Stream, uniforms

FOLDER = "arrivals"  # beside the parts of a dataset with dirt
RECEIVED = "received"  # when a sample arrived, UTC
LONGEST_GAP = 5  # steps; gaps are 1 to 5 long
LATEST_STEPS = 12  # a late sample comes up to so many steps late
_DIRT = int(Stream.DIRT)


def arrivals_of(storage: Storage) -> Storage:
    """The folder of the arrivals beside a dataset's parts."""
    return storage.child(FOLDER)


def lost(seed: int, servers: Sequence[int], first: int, steps: int, share: float) -> npt.NDArray[np.bool_]:
    """Which samples never arrive, [server, time] of `steps` steps from `first` (from the epoch); `share` of them."""
    begins = np.zeros((len(servers), steps + LONGEST_GAP - 1), np.uint8)
    _draw_gaps(seed, np.asarray(servers, np.int64), first - LONGEST_GAP + 1, F(_chance_of_a_gap(share)), begins)
    gaps = np.zeros((len(servers), steps), bool)
    for back in range(LONGEST_GAP):
        begin = LONGEST_GAP - 1 - back
        gaps |= begins[:, begin : begin + steps] > back
    return gaps


def _chance_of_a_gap(share: float) -> float:
    """Chance p that a gap begins in a step: 1 - prod_k (1 - p k / 5), k = 1..5, is `share`, since gaps may overlap."""

    def missing(chance: float) -> float:
        kept = 1.0
        for length in range(1, LONGEST_GAP + 1):
            kept *= 1 - chance * length / LONGEST_GAP
        return 1 - kept - share

    return float(brentq(missing, 0.0, 1.0))


def arrivals(table: pa.Table, seed: int, indices: dict[str, int], share: float) -> pa.Table:
    """The samples of a table in the order in which they arrive, with the time of arrival in `received`.

    `share` of them come 5 to 60 minutes late and as many come twice; all others arrive within half a minute after
    their step has ended. `indices` tells each server's index in the fleet.
    """
    names = table["server"].to_pylist()
    servers = np.fromiter((indices[name] for name in names), np.int64, len(names))
    seconds = np.asarray(table["timestamp"].cast(pa.int64()))
    draws = np.empty((len(names), 4), np.float32)
    _draw_fates(seed, servers, seconds // STEP_SECONDS, draws)
    late = STEP_SECONDS * (1 + (draws[:, 1] * F(LATEST_STEPS)).astype(np.int64))
    delay = np.where(draws[:, 0] < F(share), late, (draws[:, 1] * F(30)).astype(np.int64))
    received = seconds + STEP_SECONDS + delay
    again = np.flatnonzero(draws[:, 2] < F(share))
    rows = np.concatenate([np.arange(len(names)), again])
    arrived = np.concatenate([received, received[again] + 1 + (draws[again, 3] * F(600)).astype(np.int64)])
    order = np.lexsort((rows, arrived))
    taken = table.drop_columns(["state"]).take(pa.array(rows[order]))
    return taken.append_column(RECEIVED, pa.array(arrived[order]).cast(TIMESTAMP))


@compiled_and_kept
def _draw_gaps(seed: int, servers: Any, first: int, chance: Any, begins: Any) -> None:
    for row in range(begins.shape[0]):
        for i in range(begins.shape[1]):
            a, b, _, _ = uniforms(first + i, servers[row], _DIRT, 0, seed)
            if a < chance:
                begins[row, i] = 1 + int(b * F(LONGEST_GAP))


@compiled_and_kept
def _draw_fates(seed: int, servers: Any, steps: Any, out: Any) -> None:
    for i in range(len(servers)):
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = uniforms(steps[i], servers[i], _DIRT, 1, seed)
