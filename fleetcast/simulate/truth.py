"""What is known of a simulated fleet besides its samples, as tables: incidents, dependencies, maintenance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from fleetcast.contract.schema import INCIDENTS, MAINTENANCE, TOPOLOGY
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.simulate.episodes import Episode, Schedule
from fleetcast.simulate.layout import Layout


def incident_table(schedule: Schedule, episodes: Iterable[Episode]) -> pa.Table:
    """Schema `INCIDENTS`: the episodes that strike within the span, by onset. An end may lie beyond the span."""
    struck = [episode for episode in episodes if episode.strikes and episode.onset < schedule.spec.steps]
    struck.sort(key=lambda episode: (episode.onset, episode.incident))
    return pa.table(
        {
            "incident": [episode.incident for episode in struck],
            "server": [schedule.layout.name(episode.server) for episode in struck],
            "kind": [episode.kind.name for episode in struck],
            "cause": [episode.cause for episode in struck],
            "precursor_start": _times(schedule, [episode.start for episode in struck]),
            "onset": _times(schedule, [episode.onset for episode in struck]),
            "end": _times(schedule, [episode.end for episode in struck]),
        },
        schema=INCIDENTS,
    )


def topology_table(layout: Layout, servers: Iterable[int]) -> pa.Table:
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


def maintenance_table(schedule: Schedule, servers: Iterable[int]) -> pa.Table:
    """Schema `MAINTENANCE`: the planned windows of these servers, up to two weeks beyond the span."""
    planned = [(schedule.layout.name(server), window) for server in servers for window in schedule.windows(server)]
    return pa.table(
        {
            "server": [name for name, _ in planned],
            "start": _times(schedule, [window.start for _, window in planned]),
            "end": _times(schedule, [window.end for _, window in planned]),
        },
        schema=MAINTENANCE,
    )


def _times(schedule: Schedule, steps: Sequence[int]) -> list[int]:
    return [schedule.spec.start_seconds + step * STEP_SECONDS for step in steps]
