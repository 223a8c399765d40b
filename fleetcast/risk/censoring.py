"""Which outcomes cannot be known, because somebody acted or nothing was seen.

A server that was remediated might have had the incident that was forecast: the window is neither a hit nor a false
alarm. A remediation is a span from the action to the end of its effect (schema `REMEDIATIONS`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.risk.incidents import CALM_STEPS
from fleetcast.windows.arrays import FleetArrays

Rows = npt.NDArray[np.int64]


def remediated_steps(fleet: FleetArrays, remediated: pa.Table | None) -> Rows:
    """Remediations (schema `REMEDIATIONS`) of the fleet's servers as rows (server, first step, last step)."""
    places = {server: row for row, server in enumerate(fleet.servers)}
    found = []
    for row in [] if remediated is None else remediated.to_pylist():
        if row["server"] in places:
            first, last = ((int(row[side].timestamp()) - fleet.start) // STEP_SECONDS for side in ("start", "end"))
            found.append((places[row["server"]], first, max(first, last)))
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 3)


def remediation_censors(
    remediations: Rows, incidents: Rows, servers: int, origin: int, horizons: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Whether a remediation hides the outcome of (origin, origin + h], shape [server, len(horizons)].

    It does when it acts within the window before any onset of it, or when the origin lies within its effect or the
    hour after. An onset that came before the action is an outcome.
    """
    hidden = np.zeros((servers, len(horizons)), dtype=bool)
    for server, first, last in remediations:
        if first <= origin <= last + CALM_STEPS:
            hidden[server] = True
        elif origin < first:
            onsets = incidents[incidents[:, 0] == server, 2]
            if not ((onsets > origin) & (onsets <= first)).any():
                hidden[server] |= first <= origin + np.asarray(horizons)
    return hidden


def unseen_censors(seen: npt.NDArray[np.bool_], origin: int, horizons: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Windows without any sample [server, len(horizons)]; `seen` is [server, time]."""
    return np.stack([~seen[:, origin + 1 : origin + 1 + h].any(axis=1) for h in horizons], axis=1)
