"""P(at least one incident) over servers, with what they share.

    P(any) = 1 - product over servers of (1 - p[i]) ** k

With k = 1 the servers are independent given their forecasts. Incidents that spread, and forecasts that err together,
make P(any) smaller than that for the same single probabilities: k is fitted for each horizon on groups of servers of
the calibration window, by maximum likelihood with log k normal around 0 (standard deviation 0.5). It moves only as far
as the outcomes ask, and P(any) stays within 0 and 1 and grows with each server.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SPREAD = 0.5
GROUPS = (10, 30, 100)  # servers of a group
MOST = 1.0 - 1e-9

Doubles = npt.NDArray[np.float64]


def any_probability(probabilities: Doubles, exponent: float = 1.0) -> float:
    """P(at least one) of probabilities [server], NaN left out; NaN when none is known."""
    known = probabilities[~np.isnan(probabilities)]
    if not len(known):
        return float("nan")
    return float(-np.expm1(exponent * np.log1p(-np.minimum(known, MOST)).sum()))


def hazards_of_groups(
    probabilities: Doubles, outcomes: Doubles, weights: Doubles, sizes: Sequence[int], generator: np.random.Generator
) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """Sums of -log(1 - p), and whether any had an incident, of random groups of one origin's servers.

    All arguments are [server]; an outcome of NaN is left out. A server with a weight stands for so many like it: one
    without an incident counts so often in its group's sum, one with an incident is dealt out so many times, since each
    may be the first of another group. Groups hold about `sizes` servers.
    """
    known = np.flatnonzero(~np.isnan(probabilities) & ~np.isnan(outcomes) & (weights > 0))
    hit = outcomes > 0.5
    known = np.repeat(known, np.where(hit[known], np.maximum(np.round(weights[known]), 1), 1).astype(np.int64))
    counted = np.where(hit, 1.0, weights)
    hazard = -np.log1p(-np.minimum(probabilities, MOST)) * counted
    sums, hits = [], []
    for size in sizes:
        count = int(counted[known].sum() // size)
        if not count:
            continue
        dealt = np.array_split(generator.permutation(known), count)
        sums += [hazard[group].sum() for group in dealt]
        hits += [bool((outcomes[group] > 0.5).any()) for group in dealt]
    return np.array(sums), np.array(hits, dtype=bool)


def fit_exponent(sums: Doubles, hits: npt.NDArray[np.bool_]) -> float:
    """The exponent k from groups: sums of -log(1 - p) and whether any server had an incident, both [group]."""
    from scipy.optimize import minimize_scalar  # noqa: PLC0415  # only fitting needs it

    if not len(sums):
        return 1.0
    positive = np.maximum(sums, 1e-9)

    def loss(log_k: float) -> float:
        exposed = np.exp(log_k) * positive
        likelihood = np.where(hits, np.log(-np.expm1(-exposed)), -exposed).sum()
        return float(-likelihood / len(GROUPS) + 0.5 * (log_k / SPREAD) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))
