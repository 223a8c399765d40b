"""Scenarios of the live fleet: ordinary episodes, placed where and when a scenario wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.errors import UsageError
from fleetcast.simulate.episodes import FULL_SEVERITY, SHORTEST_IMPACT, Episode, Schedule, draw_kind, in_steps
from fleetcast.simulate.kinds import KINDS, Kind, kinds_of
from fleetcast.simulate.randomness import named_stream

LASTS_DAYS = 10  # a scenario goes on this long unless another one is chosen


@dataclass(frozen=True)
class Scenario:
    """Waves of trouble: in each, a share of the fleet gets an incident with a lead in this range."""

    share: float
    lead_hours: tuple[float, float]
    wave_hours: float
    description: str


SCENARIOS = {
    "healthy": Scenario(0.0, (0.0, 0.0), 0.0, "no trouble but the fleet's own"),
    "degrading": Scenario(0.2, (1.0, 3.0), 6.0, "several servers get slowly worse, to strike in 1 to 3 hours"),
    "critical": Scenario(0.2, (0.25, 0.5), 4.0, "several servers strike within 15 to 30 minutes"),
    "cascade": Scenario(0.0, (0.4, 0.5), 8.0, "a database goes down and its dependants follow"),
}


def scenario(name: str) -> Scenario:
    """The scenario of this name. Raises `UsageError` with the known names."""
    if name not in SCENARIOS:
        raise UsageError(f"unknown scenario {name!r}; choose from {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


def scenario_episodes(
    schedule: Schedule, name: str, first: int, servers: Sequence[int] | None = None, speed: float = 1.0
) -> list[Episode]:
    """The episodes of a scenario that begins at step `first`.

    `servers` are the servers that it strikes (by index; None lets it choose anew in each wave), `speed` shortens the
    leads and the time between waves.

    Raises:
        UsageError: unknown name, `speed` not above 0, or a cascade without a database that others depend on.
    """
    chosen = scenario(name)
    if not speed > 0:
        raise UsageError(f"speed is {speed:g}; give a factor above 0")
    if not chosen.wave_hours:
        return []
    wave_steps = max(STEPS_PER_HOUR, round(chosen.wave_hours * STEPS_PER_HOUR / speed))
    found: list[Episode] = []
    for number, start in enumerate(range(first, first + LASTS_DAYS * STEPS_PER_DAY, wave_steps)):
        draws = named_stream(schedule.spec.seed, f"scenario/{name}/{first}/{number}")
        targets = _targets(schedule, name, chosen, servers, draws)
        for server in targets:
            found += _wave_episode(schedule, name, chosen, server, start, speed, draws)
    return found


def _targets(
    schedule: Schedule, name: str, chosen: Scenario, servers: Sequence[int] | None, draws: np.random.Generator
) -> list[int]:
    fleet = range(schedule.spec.servers) if servers is None else servers
    if name == "cascade":
        heads = [server for server in fleet if _is_upstream_database(schedule, server)]
        if not heads:
            raise UsageError("a cascade needs a database that other servers depend on; there is none among the servers")
        return [heads[int(draws.integers(len(heads)))]]
    if servers is not None:
        return list(servers)
    count = min(len(fleet), max(3, round(chosen.share * len(fleet))))
    return sorted(int(server) for server in draws.choice(len(fleet), count, replace=False))


def _wave_episode(
    schedule: Schedule,
    name: str,
    chosen: Scenario,
    server: int,
    start: int,
    speed: float,
    draws: np.random.Generator,
) -> list[Episode]:
    """One server's incident and what it does to those that depend on it."""
    kind, moment = _kind(schedule, name, server, start, draws), schedule.spec.start_seconds + start * STEP_SECONDS
    lead = max(2, round(in_steps(chosen.lead_hours, draws.random()) / speed))
    impact = max(SHORTEST_IMPACT, in_steps(kind.impact_hours, draws.random()))
    severity = float(draws.uniform(*FULL_SEVERITY))
    incident = f"{schedule.layout.name(server)}-{name}-{moment}"
    onset = start + lead
    head = Episode(incident, server, kind, None, start, onset, onset + impact, severity)
    return [head, *_passed_on(schedule, head, whole=name == "cascade")]


def _kind(schedule: Schedule, name: str, server: int, start: int, draws: np.random.Generator) -> Kind:
    if name == "cascade":
        return KINDS["io_saturation"]
    options = [option for option in kinds_of(schedule.layout.profile(server)) if not option[0].sudden]
    return draw_kind(options, schedule.spec.start_seconds + start * STEP_SECONDS, draws.random())


def _passed_on(schedule: Schedule, cause: Episode, whole: bool) -> list[Episode]:
    found = []
    for edge in schedule.layout.downstreams(cause.server):
        episode = schedule.follow(cause, replace(edge, strength=1.0) if whole else edge)
        found.append(episode)
        if episode.strikes:
            found += _passed_on(schedule, episode, whole=False)
    return found


def _is_upstream_database(schedule: Schedule, server: int) -> bool:
    return schedule.layout.profile(server) == "database" and bool(schedule.layout.downstreams(server))
