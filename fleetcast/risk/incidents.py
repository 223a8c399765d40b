"""What an incident is, in the one place that says so.

Where a dataset has labels (`incidents.parquet`), its incidents are those: each begins at the labelled onset and lasts
to the labelled end. Only impacts that struck are labelled; a precursor that came to nothing is no incident. Elsewhere
an incident is what follows.

A metric is *critical* at a step when its value is at or above the critical threshold of the server's profile, or the
server's own where it lives near that (`risk.limits`). Critical
steps less than an hour apart belong to one episode. An episode is an **incident** when the hour before it was seen to
be below the threshold and three samples in a row of it are critical; its onset is the first of those three and its end
the last critical step of the episode. So one lasting breach is one incident however it flickers, a short peak is none,
and a server that lives above its threshold has none.

A step without a sample is neither critical nor below. Samples more than half an hour apart are not in a row.

One incident is one event. Inside it, and in the hour after it (cool-down), no onset is forecast or scored.

All incidents are rows (server, metric, onset, end) of positions, the last two on the time axis; the metric of a
labelled one is `LABELLED`, since a label names none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR
from fleetcast.risk.limits import Limits, critical_limits
from fleetcast.windows.arrays import FleetArrays

LABELLED = -1
RUN_STEPS = 3
CALM_STEPS = STEPS_PER_HOUR
STALE_STEPS = STEPS_PER_HOUR // 2

FOUND = pa.schema([("server", pa.string()), ("metric", pa.string()), ("onset", TIMESTAMP), ("end", TIMESTAMP)])


def incidents_of(
    fleet: FleetArrays, metrics: Sequence[str], labels: pa.Table | None = None, limits: Limits | None = None
) -> npt.NDArray[np.int64]:
    """The fleet's incidents as rows: the labelled ones (schema `INCIDENTS`) where there are any, else the observed."""
    if labels is not None and labels.num_rows:
        return labelled_steps(fleet, labels)
    return incident_steps(fleet, metrics, limits)


def labelled_steps(fleet: FleetArrays, labels: pa.Table) -> npt.NDArray[np.int64]:
    """Labelled incidents of the fleet's servers whose onset lies on its time axis, by server and onset.

    An onset between two steps counts at the later one; an end may lie beyond the axis, and without one an incident
    lasts `RUN_STEPS`.
    """
    places = {server: row for row, server in enumerate(fleet.servers)}
    found = []
    for row in labels.select(["server", "onset", "end"]).to_pylist():
        if row["server"] not in places or row["onset"] is None:
            continue
        onset = -((fleet.start - int(row["onset"].timestamp())) // STEP_SECONDS)
        end = onset + RUN_STEPS - 1
        if row["end"] is not None:
            end = max(onset, (int(row["end"].timestamp()) - fleet.start) // STEP_SECONDS)
        if 0 <= onset < fleet.steps:
            found.append((places[row["server"]], LABELLED, onset, end))
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 4)


def incident_steps(fleet: FleetArrays, metrics: Sequence[str], limits: Limits | None = None) -> npt.NDArray[np.int64]:
    """All observed incidents as rows; `limits` [server, metric] are by default the profiles'."""
    values = fleet.select(metrics)
    limits = critical_limits(fleet.profiles, metrics) if limits is None else limits
    ever = (values >= limits[:, None, :]).sum(axis=1) >= RUN_STEPS
    found = [
        (server, metric, onset, end)
        for server, metric in np.argwhere(ever)
        for onset, end in _incidents_of(values[server, :, metric], float(limits[server, metric]))
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 4)


def find_incidents(fleet: FleetArrays, metrics: Sequence[str]) -> pa.Table:
    """All incidents of the fleet: one row each with server, metric, onset and end (UTC), by server and metric.

    An incident that lasts to the last sample ends there.
    """
    steps = incident_steps(fleet, metrics)
    times = fleet.start + STEP_SECONDS * steps[:, 2:]
    columns = [
        pa.array([fleet.servers[row] for row in steps[:, 0]], pa.string()),
        pa.array([metrics[row] for row in steps[:, 1]], pa.string()),
        pa.array(times[:, 0]).cast(TIMESTAMP),
        pa.array(times[:, 1]).cast(TIMESTAMP),
    ]
    return pa.table(columns, schema=FOUND)


def open_now(fleet: FleetArrays, metrics: Sequence[str], limits: Limits | None = None) -> npt.NDArray[np.bool_]:
    """Whether each metric is in an open incident at the fleet's last step, shape [server, metric].

    Open means that the last three samples are in a row and critical, and the last is at most half an hour old. Unlike
    an onset this asks for no calm hour before, which the samples at hand may not reach back to.
    """
    values = fleet.until(fleet.steps - 1).select(metrics)[:, -RUN_STEPS * STALE_STEPS - 1 :]
    length = values.shape[1]
    if length < RUN_STEPS:
        return np.zeros((len(fleet.servers), len(metrics)), dtype=bool)
    limits = critical_limits(fleet.profiles, metrics) if limits is None else limits
    critical = values >= limits[:, None, :]
    positions = np.where(np.isnan(values), -1, np.arange(length)[None, :, None])
    latest = np.sort(positions, axis=1)[:, -RUN_STEPS:]
    held = np.take_along_axis(critical, np.maximum(latest, 0), axis=1).all(axis=1)
    in_a_row = (latest[:, 0] >= 0) & (np.diff(latest, axis=1) <= STALE_STEPS).all(axis=1)
    fresh = length - 1 - latest[:, -1] <= STALE_STEPS
    return np.asarray(held & in_a_row & fresh)


def outcomes(
    incidents: npt.NDArray[np.int64], servers: int, origin: int, horizons: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Whether each server has an onset in (origin, origin + h], shape [server, len(horizons)].

    `incidents` are rows of `incident_steps`; `origin` and `horizons` are steps.
    """
    ahead = incidents[:, 2] - origin
    hit = np.zeros((servers, len(horizons)), dtype=bool)
    for column, steps in enumerate(horizons):
        hit[incidents[(ahead > 0) & (ahead <= steps), 0], column] = True
    return hit


def in_incident(incidents: npt.NDArray[np.int64], servers: int, origin: int) -> npt.NDArray[np.bool_]:
    """Whether each server is in an incident at this step, or within the calm hour after one, shape [server]."""
    inside = np.zeros(servers, dtype=bool)
    inside[incidents[(incidents[:, 2] <= origin) & (origin <= incidents[:, 3] + CALM_STEPS), 0]] = True
    return inside


def _incidents_of(values: npt.NDArray[np.float32], limit: float) -> list[tuple[int, int]]:
    """(onset, end) of the incidents of one series, in order."""
    seen = np.flatnonzero(~np.isnan(values))
    critical = values[seen] >= limit
    starts = _run_starts(seen, critical)
    above = seen[critical]
    found = []
    for episode in np.split(above, np.flatnonzero(np.diff(above) > CALM_STEPS) + 1):
        first, last = int(episode[0]), int(episode[-1])
        onsets = starts[(starts >= first) & (starts <= last)]
        if len(onsets) and _calm_before(values, first):
            found.append((int(onsets[0]), last))
    return found


def _run_starts(seen: npt.NDArray[np.int64], critical: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Steps at which three critical samples in a row begin; `seen` are the steps that have a sample."""
    if len(seen) < RUN_STEPS:
        return seen[:0]
    close = np.diff(seen) <= STALE_STEPS
    return seen[:-2][critical[:-2] & critical[1:-1] & critical[2:] & close[:-1] & close[1:]]


def _calm_before(values: npt.NDArray[np.float32], first: int) -> bool:
    """Whether the hour before an episode lies in the data and was seen, if only once (no step of it is critical)."""
    return first >= CALM_STEPS and not bool(np.isnan(values[first - CALM_STEPS : first]).all())
