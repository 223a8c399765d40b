"""Levels that do not flap: up at once, down only when the probabilities have left the level for good.

A level is entered as `risk.levels` says, without delay. It is left for a lower one when, for `HOLD_STEPS` origins in a
row, the probabilities are below `KEEP` of what the level asks for: then the highest level whose (lowered) thresholds
still held at any of these origins is taken. An open incident keeps P1; its end needs the same wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fleetcast.risk.levels import P1_30M, P2_30M, P3_8H, level_codes

HOLD_STEPS = 3
KEEP = 0.8
FLAP_STEPS = 12  # origins within which a level that is taken again has flapped

Codes = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Held:
    """Levels held [server], as positions in `LEVELS`, and lowered levels of the last origins [server, HOLD_STEPS]."""

    levels: Codes
    recent: Codes

    @classmethod
    def start(cls, servers: int) -> Held:
        """All at P4."""
        return cls(np.full(servers, 3), np.full((servers, HOLD_STEPS), 3))

    def step(self, p_30m: Doubles, p_8h: Doubles, open_: npt.NDArray[np.bool_]) -> Held:
        """The levels after one more origin; all arguments are [server].

        A server about which nothing is known any more (NaN and not open) keeps its level.
        """
        silent = np.isnan(p_30m) & np.isnan(p_8h) & ~open_
        kept = lowered_codes(p_30m, p_8h, open_)
        recent = np.column_stack([self.recent[:, 1:], np.where(silent, self.levels, kept)])
        levels = np.minimum(level_codes(p_30m, p_8h, open_), np.maximum(self.levels, recent.min(axis=1)))
        return Held(np.where(silent, self.levels, levels), recent)


def lowered_codes(p_30m: Doubles, p_8h: Doubles, open_: npt.NDArray[np.bool_]) -> Codes:
    """Levels with thresholds of `KEEP` times the ladder's, as positions in `LEVELS`."""
    held = [open_ | (p_30m > KEEP * P1_30M), p_30m > KEEP * P2_30M, p_8h > KEEP * P3_8H]
    return np.asarray(np.select(held, [0, 1, 2], default=3))


def flaps(levels: Codes, within: int = FLAP_STEPS) -> int:
    """Number of times that a level [origin, server] was left and taken again within so many origins."""
    count = 0
    for series in levels.T:
        changes = np.flatnonzero(np.diff(series)) + 1
        count += sum(
            bool(series[second] == series[first - 1] and second - first <= within)
            for first, second in pairwise(changes)
        )
    return count
