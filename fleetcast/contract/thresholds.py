"""Warning and critical thresholds, with the overrides of a profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import PROFILES, UNKNOWN


class Threshold(NamedTuple):
    """A metric is in warning, or critical, at or above these values (in the metric's unit)."""

    warning: float
    critical: float


THRESHOLDS: dict[str, Threshold] = {
    "cpu_utilization": Threshold(0.80, 0.95),
    "cpu_iowait": Threshold(0.20, 0.40),
    "memory_used": Threshold(0.85, 0.95),
    "swap_used": Threshold(0.10, 0.30),
    "filesystem_used": Threshold(0.80, 0.90),
    "load1_per_core": Threshold(1.5, 3.0),
    "tcp_close_wait": Threshold(50.0, 200.0),
}
OVERRIDES: dict[str, dict[str, Threshold]] = {"database": {"cpu_iowait": Threshold(0.30, 0.50)}}


def threshold(metric: str, profile: str = UNKNOWN) -> Threshold | None:
    """The thresholds of a metric on a server of this profile; None where the contract sets none."""
    return OVERRIDES.get(profile, {}).get(metric, THRESHOLDS.get(metric))


def threshold_matrix(metrics: Sequence[str], kind: str = "critical") -> npt.NDArray[np.float64]:
    """Thresholds by profile code and metric, shape [8, len(metrics)]; +inf where none is set.

    `kind` is "warning" or "critical"; row 0 is the unknown profile.
    """
    rows = []
    for profile in (UNKNOWN, *PROFILES):
        found = [threshold(metric, profile) for metric in metrics]
        rows.append([np.inf if pair is None else float(getattr(pair, kind)) for pair in found])
    return np.array(rows, dtype=np.float64)
