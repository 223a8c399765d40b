"""Where a metric becomes critical: the profile's threshold, or the server's own where it lives near it.

A batch machine whose CPU is at 95 % every night is healthy. A server *lives near* the threshold of a metric when it
was critical for a quarter of an hour or more on at least 40 % of the days of its past, and on three days or more. Its
own limit is then 5 % above the 0.999 quantile of that past (never below the profile's threshold). For a ratio this may
lie above 1, where nothing is critical any more: what the server does every day says nothing about it.

An incident lasts hours and comes once in ten days or so, so it makes no server live near a threshold. Own limits are
fitted on the past up to a cut, never on what is scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.contract.thresholds import threshold_matrix
from fleetcast.contract.vocabulary import STEPS_PER_DAY, profile_codes
from fleetcast.windows.arrays import FleetArrays

CRITICAL_STEPS = 3  # of a day, that make it a day at the threshold
DAY_SHARE = 0.4
FEWEST_DAYS = 3
QUANTILE, MARGIN = 0.999, 1.05

Limits = npt.NDArray[np.float32]


def critical_limits(profiles: Sequence[str], metrics: Sequence[str]) -> Limits:
    """Critical thresholds [server, metric] in contract units; +inf where the contract sets none.

    In single precision as the samples are, so that a sample of exactly 0.95 is at a threshold of 0.95.
    """
    return threshold_matrix(metrics)[profile_codes(profiles)].astype(np.float32)


def server_limits(past: FleetArrays, metrics: Sequence[str]) -> Limits:
    """Critical limits [server, metric]: the profile's, or the server's own, fitted on all of `past`.

    Days are counted back from the end of `past`; a day counts when a tenth of it or more has samples.
    """
    limits = critical_limits(past.profiles, metrics)
    days = past.steps // STEPS_PER_DAY
    if days < FEWEST_DAYS:
        return limits
    values = past.select(metrics)[:, past.steps - days * STEPS_PER_DAY :]
    by_day = values.reshape(len(values), days, STEPS_PER_DAY, len(metrics))
    seen = (~np.isnan(by_day)).sum(axis=2) >= STEPS_PER_DAY // 10
    critical = ((by_day >= limits[:, None, None, :]).sum(axis=2) >= CRITICAL_STEPS) & seen
    often = (critical.sum(axis=1) >= FEWEST_DAYS) & (critical.sum(axis=1) >= DAY_SHARE * seen.sum(axis=1))
    for server, metric in np.argwhere(often):
        own = MARGIN * np.nanquantile(values[server, :, metric], QUANTILE)
        limits[server, metric] = max(limits[server, metric], np.float32(own))
    return limits
