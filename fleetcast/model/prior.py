"""How the servers of a fleet move away from their level: what a server is believed to do that has hardly any past.

At training the residuals of all servers (what followed a level, less the level) are pooled by profile, metric and lead,
and their quantiles are kept in the bundle's manifest. A young server's quantiles are

    w x own + (1 - w) x (its level + the profile's),     w = (history - lead) / `OWN_STEPS`, between 0 and 1

so a server of an hour has its profile's spread, and one of three days its own (quantiles are averaged level by level).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.model.base import BUCKET_EDGES, ResidualBase
from fleetcast.model.floor import LEVEL_STEPS, forward_fill

OWN_STEPS = 2 * STEPS_PER_DAY  # of residuals that a server's own spread is trusted with alone
STRIDE = STEPS_PER_HOUR
LEADS = 4  # of each bucket that residuals are collected at
ANY = "any"  # of a profile that training did not see
DIGITS = 6

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class FleetSpread(BaseModel):
    """Quantiles of residuals: `quantiles[profile][metric]` is [bucket][level], `edges` their last leads."""

    levels: tuple[float, ...]
    edges: tuple[int, ...]
    quantiles: dict[str, dict[str, list[list[float]]]] = Field(description="by profile, and of all of them as `any`")

    @classmethod
    def fit(
        cls, values: Floats, profiles: Sequence[str], metrics: Sequence[str], horizon: int, levels: Sequence[float]
    ) -> FleetSpread:
        """Pool the residuals of samples [server, time, metric] with NaN gaps."""
        edges = (*(edge for edge in BUCKET_EDGES if edge < horizon), horizon)
        codes, found = np.asarray(profiles), dict[str, dict[str, list[list[float]]]]()
        for column, metric in enumerate(metrics):
            parts = _residuals(values[:, :, column], edges)
            for profile in (*sorted(set(profiles)), ANY):
                rows = np.ones(len(codes), bool) if profile == ANY else codes == profile
                quantiles = [_quantiles(part[rows], levels) for part in parts]
                if all(quantiles):
                    found.setdefault(profile, {})[metric] = quantiles
        return cls(levels=tuple(levels), edges=edges, quantiles=found)

    def of(self, profiles: Sequence[str], metrics: Sequence[str], horizon: int) -> Floats:
        """Residual quantiles [server, horizon, metric, level] of these servers; 0 for a metric without any."""
        bucket = np.minimum(np.searchsorted(self.edges, np.arange(1, horizon + 1)), len(self.edges) - 1)
        empty = np.zeros((len(self.edges), len(self.levels)))
        table = {
            profile: np.stack(
                [
                    np.asarray(self.quantiles.get(profile, {}).get(metric) or self._any(metric, empty))[bucket]
                    for metric in metrics
                ],
                axis=1,
            )
            for profile in set(profiles)
        }
        return np.stack([table[profile] for profile in profiles]).astype(np.float32)

    def _any(self, metric: str, empty: npt.NDArray[np.float64]) -> Any:
        return self.quantiles.get(ANY, {}).get(metric, empty)


class YoungBase:
    """As `ResidualBase`, with the fleet's spread where a server's own past is short."""

    def __init__(self, base: ResidualBase, spread: Floats) -> None:
        """`spread` is [server, horizon, target, level] of `FleetSpread.of`."""
        self.base, self.spread = base, spread

    def at(self, rows: Ints, ends: Ints) -> Floats:
        """As `ResidualBase.at`."""
        found = self.base.at(rows, ends)
        age = ends + 1 - self.base.begins[rows]
        for place in np.flatnonzero(age < OWN_STEPS + found.shape[1]):
            row, end, begin = rows[place], ends[place], self.base.begins[rows[place]]
            past = self.base.values[row, begin : end + 1][:, self.base.columns]
            level = level_of(past.T)
            found[place] = blended(found[place], level, self.spread[row], int(age[place]))
        return found


def level_of(past: Floats) -> Floats:
    """The level of series [series, time] at their end: the median of the last half hour."""
    filled = forward_fill(past)[:, -LEVEL_STEPS:]
    return np.asarray(np.median(filled, axis=1), np.float32)


def blended(own: Floats, level: Floats, spread: Floats, age: int) -> Floats:
    """Quantiles of a server of this age in steps: own and spread are [horizon, target, level], level is [target]."""
    lead = np.arange(1, len(own) + 1)
    weight = np.clip((age - lead) / OWN_STEPS, 0, 1).astype(np.float32)[:, None, None]
    fleet = np.maximum(level[None, :, None] + spread, 0)
    return np.asarray(weight * own + (1 - weight) * fleet, np.float32)


def _residuals(series: Floats, edges: Sequence[int]) -> list[Floats]:
    """Residuals [server, place] of each bucket; NaN where there is no sample."""
    length = series.shape[1]
    ends = np.arange(LEVEL_STEPS - 1, length - 1, STRIDE)
    windows = np.lib.stride_tricks.sliding_window_view(series, LEVEL_STEPS, axis=1)[:, ends - LEVEL_STEPS + 1]
    levels, parts, first = np.median(windows, axis=2), [], 1
    for last in edges:
        leads = np.unique(np.linspace(first, last, LEADS).round().astype(np.int64))
        ahead = ends[:, None] + leads
        known = ahead < length
        following = np.where(known, series[:, np.minimum(ahead, length - 1)], np.float32(np.nan))
        parts.append((following - levels[:, :, None]).reshape(len(series), -1))
        first = last + 1
    return parts


def _quantiles(residuals: Floats, levels: Sequence[float]) -> list[float]:
    known = residuals[~np.isnan(residuals)]
    return [round(float(one), DIGITS) for one in np.quantile(known, levels)] if len(known) else []
