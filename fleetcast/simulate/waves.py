"""Waves of a scenario: episodes that are forced where and when the scenario wants them, as inputs of the simulation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import PROFILES, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.errors import UsageError
from fleetcast.simulate.actions import FORCE, FORCE_TOTAL, INPUT
from fleetcast.simulate.kinds import KIND_NAMES, choice_table, kind_table
from fleetcast.simulate.layout import Layout
from fleetcast.simulate.randomness import named_stream
from fleetcast.simulate.scenarios import LASTS_DAYS, Scenario, scenario
from fleetcast.simulate.spec import FleetSpec


@lru_cache(maxsize=8)
def fleet_inputs(spec: FleetSpec) -> npt.NDArray[np.void]:
    """The inputs (records `INPUT`) of the scenario that a fleet begins with. Kept; not to be changed."""
    first = spec.first_step + round(spec.scenario_after * STEPS_PER_HOUR)
    return scenario_inputs(Layout(spec), spec.scenario, first)


def scenario_inputs(
    layout: Layout, name: str, first: int, servers: Sequence[int] | None = None, speed: float = 1.0
) -> npt.NDArray[np.void]:
    """The inputs (records `INPUT`) of a scenario that begins at step `first` (from the epoch).

    `servers` are the servers that it strikes (by index; None lets it choose anew in each wave), `speed` shortens the
    leads and the time between waves.

    Raises:
        UsageError: unknown name, `speed` not above 0, or a cascade without a database that others depend on.
    """
    chosen = scenario(name)
    if not speed > 0:
        raise UsageError(f"speed is {speed:g}; give a factor above 0")
    if not chosen.wave_hours:
        return np.zeros(0, INPUT)
    wave_steps = max(STEPS_PER_HOUR, round(chosen.wave_hours * STEPS_PER_HOUR / speed))
    found = []
    for number, start in enumerate(range(first, first + LASTS_DAYS * STEPS_PER_DAY, wave_steps)):
        draws = named_stream(layout.spec.seed, f"scenario/{name}/{first}/{number}")
        for server in _targets(layout, name, chosen, servers, draws):
            kind = _kind(layout, name, server, draws)
            low, high = chosen.lead_hours
            lead = max(2, round(STEPS_PER_HOUR * low * (high / low) ** draws.random() / speed))
            found.append((start, server, FORCE_TOTAL if name == "cascade" else FORCE, kind, lead))
    return np.array(found, INPUT)


def _targets(
    layout: Layout, name: str, chosen: Scenario, servers: Sequence[int] | None, draws: np.random.Generator
) -> list[int]:
    fleet = range(layout.spec.servers) if servers is None else servers
    if name == "cascade":
        heads = [server for server in fleet if _is_upstream_database(layout, server)]
        if not heads:
            raise UsageError("a cascade needs a database that other servers depend on; there is none among the servers")
        return [heads[int(draws.integers(len(heads)))]]
    if servers is not None:
        return list(servers)
    count = min(len(fleet), max(3, round(chosen.share * len(fleet))))
    return sorted(int(server) for server in draws.choice(len(fleet), count, replace=False))


def _kind(layout: Layout, name: str, server: int, draws: np.random.Generator) -> int:
    if name == "cascade":
        return KIND_NAMES.index("io_saturation")
    chance = np.diff(choice_table()[1, PROFILES.index(layout.profile(server))], prepend=np.float32(0))
    chance = np.where(kind_table()["sudden"], 0, chance)
    return int(np.searchsorted(np.cumsum(chance), draws.random() * chance.sum(), side="right"))


def _is_upstream_database(layout: Layout, server: int) -> bool:
    return layout.profile(server) == "database" and bool(layout.downstreams(server))
