"""Waves of a scenario: episodes that are forced where and when the scenario wants them, as inputs of the simulation.

Whom a wave strikes follows from seed, wave and cell alone, so that a server's lot is the same in a larger fleet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled_and_kept
from fleetcast.contract.vocabulary import PROFILES, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.errors import UsageError
from fleetcast.simulate.actions import FORCE, FORCE_TOTAL, INPUT
from fleetcast.simulate.kinds import CASCADED, KIND_NAMES, choice_table, kind_table
from fleetcast.simulate.layout import CELL_SERVERS, Layout
from fleetcast.simulate.randomness import FLEET, Stream, uniforms
from fleetcast.simulate.scenarios import LASTS_DAYS, Scenario, scenario
from fleetcast.simulate.spec import FleetSpec

CASCADE_KIND = "io_saturation"  # what a wave of cascades begins with
CASCADE_CELLS = 0.2  # share of the cells beside the first in which a wave of cascades begins
_SCENARIO = int(Stream.SCENARIO)


@lru_cache(maxsize=8)
def fleet_inputs(spec: FleetSpec) -> npt.NDArray[np.void]:
    """The inputs (records `INPUT`) of the scenario that a fleet begins with. Kept; not to be changed.

    Raises `UsageError` for a cascade in a fleet without a database that others depend on, or without its kinds.
    """
    first = spec.first_step + round(spec.scenario_after * STEPS_PER_HOUR)
    return scenario_inputs(Layout(spec), spec.scenario, first)


def scenario_inputs(
    layout: Layout,
    name: str,
    first: int,
    servers: Sequence[int] | None = None,
    speed: float = 1.0,
    at_least: int = 0,
) -> npt.NDArray[np.void]:
    """The inputs (records `INPUT`) of a scenario that begins at step `first` (from the epoch).

    `servers` are the servers that it strikes (by index; None lets it choose anew in each wave), `speed` shortens the
    leads and the time between waves. Where a wave would strike fewer than `at_least` servers of a small fleet, the next
    in line are struck too.

    Raises:
        UsageError: unknown name, `speed` not above 0, or a cascade without a database that others depend on or in a
            fleet without its kinds of incident.
    """
    chosen = scenario(name)
    if not speed > 0:
        raise UsageError(f"speed is {speed:g}; give a factor above 0")
    if not chosen.wave_hours:
        return np.zeros(0, INPUT)
    wave_steps = max(STEPS_PER_HOUR, round(chosen.wave_hours * STEPS_PER_HOUR / speed))
    allowed = _allowed(layout, name, servers)
    found = []
    for start in range(first, first + LASTS_DAYS * STEPS_PER_DAY, wave_steps):
        draws = np.empty((-(-layout.spec.servers // CELL_SERVERS) * CELL_SERVERS, 4), np.float32)
        _draw_wave(layout.spec.seed, start, draws)
        for server in _targets(layout, name, chosen, allowed, servers is not None, start, draws, at_least):
            low, high = chosen.lead_hours
            lead = max(2, round(STEPS_PER_HOUR * low * (high / low) ** float(draws[server, 2]) / speed))
            code = FORCE_TOTAL if name == "cascade" else FORCE
            found.append((start, server, code, _kind(layout, name, server, float(draws[server, 1])), lead))
    return np.array(found, INPUT)


def _allowed(layout: Layout, name: str, servers: Sequence[int] | None) -> list[int]:
    """The servers that may be struck. Raises `UsageError` where a cascade finds none, or lacks a kind that it needs."""
    fleet = list(range(layout.spec.servers) if servers is None else servers)
    if name != "cascade":
        return fleet
    gone = [kind for kind in (CASCADE_KIND, CASCADED) if kind in layout.spec.without_kinds]
    if gone:
        raise UsageError(f"a cascade needs incidents of kind {gone[0]}, which this fleet is without")
    heads = _heads(layout, fleet)
    if not heads:
        raise UsageError("a cascade needs a database that other servers depend on; there is none among the servers")
    return heads


def _heads(layout: Layout, servers: Sequence[int]) -> list[int]:
    """The databases that other servers of the fleet depend on."""
    return [server for server in servers if layout.profile(server) == "database" and layout.downstreams(server)]


def _targets(
    layout: Layout, name: str, chosen: Scenario, allowed: list[int], given: bool, start: int, draws: Any, at_least: int
) -> list[int]:
    """Whom a wave strikes: of each whole cell the scenario's share; of cascades one head in some of the cells."""
    in_line = sorted(allowed, key=lambda server: float(draws[server, 0]))
    if given:
        return in_line[:1] if name == "cascade" else sorted(allowed)
    struck = []
    for first in range(0, layout.spec.servers, CELL_SERVERS):
        cell = sorted(range(first, first + CELL_SERVERS), key=lambda server: float(draws[server, 0]))
        if name != "cascade":
            struck += cell[: round(chosen.share * CELL_SERVERS)]
        elif first == 0 or _cell_draw(layout.spec.seed, start, first) < CASCADE_CELLS:
            whole = Layout(layout.spec.model_copy(update={"servers": first + CELL_SERVERS}))
            struck += _heads(whole, cell)[:1]
    found = [server for server in struck if server < layout.spec.servers]
    at_least = min(at_least, 1) if name == "cascade" else at_least
    more = [server for server in in_line if server not in set(found)]
    return sorted(found + more[: max(0, at_least - len(found))])


def _kind(layout: Layout, name: str, server: int, draw: float) -> int:
    if name == "cascade":
        return KIND_NAMES.index(CASCADE_KIND)
    chance = np.diff(
        choice_table(layout.spec.without_kinds)[1, PROFILES.index(layout.profile(server))], prepend=np.float32(0)
    )
    total = np.cumsum(np.where(kind_table()["sudden"], 0, chance))
    return min(int(np.searchsorted(total, draw * total[-1], side="right")), len(total) - 1)


@compiled_and_kept
def _draw_wave(seed: int, start: int, out: Any) -> None:
    for server in range(len(out)):
        out[server, 0], out[server, 1], out[server, 2], out[server, 3] = uniforms(start, server, _SCENARIO, 0, seed)


@compiled_and_kept
def _cell_draw(seed: int, start: int, first: int) -> Any:
    return uniforms(start, FLEET - first, _SCENARIO, 0, seed)[0]
