"""The quantiles that the fleet model's network corrects: a residual floor that widens with the lead."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.model.floor import RESIDUAL_STEPS
from fleetcast.model.residuals import BLOCK_STEPS, STRIDE, gather_residuals, quantiles_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BUCKET_EDGES = (3, 6, 12, 24, 48, 96, 288)  # last lead of each bucket, in steps; a longer horizon adds one
TOGETHER = 16  # windows whose residuals fit the processor's cache


class ResidualBase:
    """Untrained quantiles of series at any origin.

    Level: median of the last 30 min. Spread: quantiles of what followed such levels in the last three days, by bucket
    of leads, as known at the last full 2 h of absolute time, so that the same origin gives the same numbers in
    training and in service. Before a series' first observation its residuals are 0. Only what is asked for is
    computed.
    """

    def __init__(
        self,
        values: Floats,
        start: int | Ints,
        horizon: int,
        levels: Sequence[float],
        leads: int,
        columns: Sequence[int] | None = None,
        begins: Ints | None = None,
    ) -> None:
        """Quantiles of `values`.

        Args:
            values: [server, time, metric] with NaN gaps; kept, not copied.
            start: Unix seconds of the first step, of all servers or of each.
            horizon: steps ahead.
            levels: quantile levels.
            leads: so many of each bucket are read, its first and last among them (`WindowSpec.floor_leads`).
            columns: metrics of the targets; None is all.
            begins: first step of each server that there was to see; None is 0.
        """
        servers = len(values)
        self.values = values
        self.columns = np.arange(values.shape[2]) if columns is None else np.asarray(columns, np.int64)
        self.offsets = np.broadcast_to(np.asarray(start) // STEP_SECONDS, servers)
        self.begins = np.zeros(servers, np.int64) if begins is None else begins
        self.shares = np.array(levels, np.float64)
        self.leads, self.lead_starts, self.bucket_of = _buckets(horizon, leads)

    def at(self, rows: Ints, ends: Ints) -> Floats:
        """Quantiles [batch, horizon, target, level], at least 0, of servers `rows` with origins at steps `ends`."""
        offsets = self.offsets[rows]
        known = (ends + offsets) // BLOCK_STEPS * BLOCK_STEPS - offsets
        windows = np.stack([rows, ends, known, self.begins[rows]], axis=1)
        found = np.empty((len(rows), len(self.bucket_of), len(self.columns), len(self.shares)), np.float32)
        for first in range(0, len(rows), TOGETHER):
            self._compute(windows[first : first + TOGETHER], found[first : first + TOGETHER])
        return found

    def _compute(self, windows: Ints, quantiles: Floats) -> None:
        size, targets, buckets = len(windows), len(self.columns), len(self.lead_starts) - 1
        places = int(np.diff(self.lead_starts).max()) * -(-RESIDUAL_STEPS // STRIDE)
        levels = np.empty((size, targets), np.float32)
        residuals = np.empty((size, targets, buckets, places), np.float32)
        counts = np.empty((size, buckets), np.int64)
        gather_residuals(
            self.values, self.columns, windows, self.leads, self.lead_starts, RESIDUAL_STEPS, levels, residuals, counts
        )
        residuals.sort(axis=3)
        quantiles_of(residuals, counts, self.shares, levels, self.bucket_of, quantiles)


@cache
def _buckets(horizon: int, most: int) -> tuple[Ints, Ints, Ints]:
    """Leads of all buckets, where each bucket's begin and the last one's end, and the bucket of each step."""
    edges = [edge for edge in BUCKET_EDGES if edge < horizon] + [horizon]
    leads = [_spread(first + 1, last, most) for first, last in zip([0, *edges[:-1]], edges, strict=True)]
    bucket_of = np.repeat(np.arange(len(edges)), np.diff([0, *edges]))
    return np.concatenate(leads), np.cumsum([0, *map(len, leads)]), bucket_of


def _spread(first: int, last: int, most: int) -> Ints:
    """At most so many leads from first to last, evenly spaced."""
    count = min(most, last - first + 1)
    return np.unique(np.linspace(first, last, count).round().astype(np.int64))
