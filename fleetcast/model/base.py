"""The quantiles that the fleet model's network corrects: a residual floor that widens with the lead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.model.floor import LEVEL_STEPS, RESIDUAL_STEPS, forward_fill

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLOCK_STEPS = 24  # residual quantiles are renewed every 2 h of absolute time
END_STRIDE = 12  # steps between the past ends that residuals are collected at
LEADS_A_BUCKET = 8
BUCKET_EDGES = (3, 6, 12, 24, 48, 96, 288)  # last lead of each bucket, in steps; a longer horizon adds one


class ResidualBase:
    """Untrained quantiles of a fleet at any origin.

    Level: median of the last 30 min. Spread: quantiles of what followed such levels in the last three days, by bucket
    of leads, as known at the last full 2 h of absolute time, so that the same origin gives the same numbers in
    training and in service. Before a series' first observation its residuals are 0.
    """

    def __init__(self, values: Floats, start: int, horizon: int, levels: Sequence[float]) -> None:
        """`values` is [server, time, target] with NaN gaps; `start` the Unix seconds of its first step."""
        series = np.ascontiguousarray(values.transpose(0, 2, 1))
        self.series = forward_fill(series)
        seen = ~np.isnan(series)
        self.first = np.where(seen.any(axis=2), seen.argmax(axis=2), series.shape[2])
        self.offset = start // STEP_SECONDS
        self.horizon, self.levels = horizon, np.array(levels)
        edges = [edge for edge in BUCKET_EDGES if edge < horizon] + [horizon]
        self.leads = [_spread(first + 1, last) for first, last in zip([0, *edges[:-1]], edges, strict=True)]
        self.bucket_of = np.repeat(np.arange(len(edges)), np.diff([0, *edges]))
        self._tables: dict[int, Floats] = {}

    def at(self, rows: Ints, ends: Ints) -> Floats:
        """Quantiles [batch, horizon, target, level], at least 0, of servers `rows` with origins at steps `ends`."""
        steps = np.maximum(ends[:, None] + np.arange(1 - LEVEL_STEPS, 1), 0)
        recent = self.series[rows[:, None], :, steps]
        level = np.median(recent, axis=1)
        blocks = (ends + self.offset) // BLOCK_STEPS * BLOCK_STEPS - self.offset
        spread = np.empty((len(rows), len(self.leads), level.shape[1], len(self.levels)), np.float32)
        for block in np.unique(blocks):
            chosen = blocks == block
            spread[chosen] = self._table(int(block))[rows[chosen]]
        quantiles = level[:, None, :, None] + spread[:, self.bucket_of]
        return np.asarray(np.clip(quantiles, 0, None), dtype=np.float32)

    def _table(self, block: int) -> Floats:
        """Residual quantiles [server, bucket, target, level] known at step `block`."""
        if block not in self._tables:
            found = [self._residual_quantiles(block, leads) for leads in self.leads]
            self._tables[block] = np.stack(found, axis=1).astype(np.float32)
        return self._tables[block]

    def _residual_quantiles(self, block: int, leads: Ints) -> Floats:
        last = min(block, self.series.shape[2] - 1) - int(leads[-1])
        ends = np.arange(last, max(last - RESIDUAL_STEPS, LEVEL_STEPS - 1), -END_STRIDE)
        servers, targets = self.series.shape[:2]
        if not len(ends):
            return np.zeros((servers, targets, len(self.levels)), np.float32)
        level = np.median(self.series[:, :, ends[:, None] + np.arange(1 - LEVEL_STEPS, 1)], axis=3)
        following = self.series[:, :, ends[:, None] + leads]
        began = ends - LEVEL_STEPS + 1 >= self.first[..., None]
        residuals = ((following - level[..., None]) * began[..., None]).reshape(servers, targets, -1)
        return np.asarray(np.moveaxis(np.quantile(residuals, self.levels, axis=2), 0, 2), dtype=np.float32)


def _spread(first: int, last: int) -> Ints:
    """At most LEADS_A_BUCKET leads from first to last, evenly spaced."""
    count = min(LEADS_A_BUCKET, last - first + 1)
    return np.unique(np.linspace(first, last, count).round().astype(np.int64))
