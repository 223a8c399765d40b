"""What is known of a simulated fleet besides its samples, as tables: incidents, dependencies, maintenance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.schema import INCIDENTS, MAINTENANCE, TOPOLOGY
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY
from fleetcast.simulate.actions import between
from fleetcast.simulate.episode_steps import CASCADED_KIND, EPISODE
from fleetcast.simulate.kinds import KIND_NAMES
from fleetcast.simulate.layout import Layout
from fleetcast.simulate.maintenance import KNOWN_AHEAD_DAYS, windows
from fleetcast.simulate.state import IMPACT

if TYPE_CHECKING:
    from fleetcast.simulate.world import Cell, World

MARGIN = STEPS_PER_DAY // 2  # every impact that has begun is over by then


def finished_episodes(
    world: World,
    cell: Cell,
    episodes: npt.NDArray[np.void],
    end: int,
    inputs: npt.NDArray[np.void],
) -> npt.NDArray[np.void]:
    """The episodes of the servers asked for, those under way at step `end` followed to their end.

    `cell` is at `end`; it is left as it is. `inputs` are those that come after `end`.
    """
    later = cell.copy()
    _, more = world.events(later, end, MARGIN, inputs=between(inputs, end, MARGIN))
    found = np.concatenate([episodes, more, _open(later, end + MARGIN)])
    found = found[np.isin(found["server"], cell.servers[cell.rows])]
    return found[found["start"] < end]


def _open(cell: Cell, step: int) -> npt.NDArray[np.void]:
    """Impacts that are still under way, as if they ended at `step`."""
    rows: list[Any] = []
    for server, s in zip(cell.servers, cell.state, strict=True):
        if s["phase"] == IMPACT:
            rows.append((server, s["kind"], True, -1, -1, s["start"], s["onset"], step))
    return np.array(rows, EPISODE)


def incident_name(server: str, onset: int) -> str:
    """Name of the incident that struck a server at a step (from the epoch)."""
    return f"{server}@{datetime.fromtimestamp(onset * STEP_SECONDS, UTC):%Y%m%dT%H%MZ}"


def incident_table(layout: Layout, episodes: npt.NDArray[np.void], end: int) -> pa.Table:
    """Schema `INCIDENTS`: the episodes that strike at full severity before step `end`, by onset.

    An end may lie beyond it. `cause` names the upstream incident of a cascade.
    """
    struck = episodes[episodes["full"] & (episodes["onset"] >= 0) & (episodes["onset"] < end)]
    names = [incident_name(layout.name(int(one["server"])), int(one["onset"])) for one in struck]
    causes = [
        incident_name(layout.name(int(one["cause"])), int(one["cause_onset"])) if one["cause"] >= 0 else None
        for one in struck
    ]
    order = sorted(range(len(struck)), key=lambda place: (int(struck[place]["onset"]), names[place]))
    struck = struck[order]
    return pa.table(
        {
            "incident": [names[place] for place in order],
            "server": [layout.name(int(server)) for server in struck["server"]],
            "kind": [KIND_NAMES[kind] for kind in struck["kind"]],
            "cause": [causes[place] for place in order],
            "precursor_start": struck["start"] * STEP_SECONDS,
            "onset": struck["onset"] * STEP_SECONDS,
            "end": struck["end"] * STEP_SECONDS,
        },
        schema=INCIDENTS,
    )


def topology_table(layout: Layout, servers: Sequence[int]) -> pa.Table:
    """Schema `TOPOLOGY`: what these servers depend on."""
    edges = [edge for server in servers for edge in layout.upstreams(server)]
    return pa.table(
        {
            "upstream": [layout.name(edge.upstream) for edge in edges],
            "downstream": [layout.name(edge.downstream) for edge in edges],
            "strength": [edge.strength for edge in edges],
        },
        schema=TOPOLOGY,
    )


def maintenance_table(layout: Layout, servers: Sequence[int], end: int) -> pa.Table:
    """Schema `MAINTENANCE`: the planned windows of these servers, up to two weeks beyond step `end`."""
    spec = layout.spec
    found = windows(spec, servers, spec.first_step, end + KNOWN_AHEAD_DAYS * STEPS_PER_DAY)
    planned = [(layout.name(server), window) for server, mine in zip(servers, found, strict=True) for window in mine]
    return pa.table(
        {
            "server": [name for name, _ in planned],
            "start": [window.start * STEP_SECONDS for _, window in planned],
            "end": [window.end * STEP_SECONDS for _, window in planned],
        },
        schema=MAINTENANCE,
    )


assert KIND_NAMES[CASCADED_KIND] == "upstream_stall"
