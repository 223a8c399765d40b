"""When trouble comes to which server: episodes as a pure function of the seed and a server's index.

Between two episodes of a server lies an exponential gap. An episode of a server that others depend on is passed on:
its dependants follow with a lag, and only some of them as badly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR
from fleetcast.simulate.calendar import is_business_hour
from fleetcast.simulate.kinds import CASCADED, KINDS, Kind, kinds_of
from fleetcast.simulate.layout import Dependency, Layout
from fleetcast.simulate.maintenance import Window, windows
from fleetcast.simulate.randomness import Stream, named_stream, stream
from fleetcast.simulate.spec import FleetSpec

SHORTEST_IMPACT = 9  # steps; the observable definition needs 3 at the threshold
REST_STEPS = 2 * STEPS_PER_HOUR  # no new episode so soon after the last
FULL_SEVERITY = (0.96, 1.0)
MILD_SEVERITY = (0.3, 0.5)
LAG_STEPS = (2, 8)
BUSY_WEIGHT, QUIET_WEIGHT = 2.0, 0.3


@dataclass(frozen=True)
class Episode:
    """Trouble of one server, in steps from the fleet's start.

    The precursor runs from `start` to `onset` (equal where there is none), the impact from `onset` to `end`. An
    episode that ends before its onset came to nothing. `incident` names it; `cause` is the upstream episode's name.
    """

    incident: str
    server: int
    kind: Kind
    cause: str | None
    start: int
    onset: int
    end: int
    severity: float

    @property
    def strikes(self) -> bool:
        """Whether it is an incident: it reaches its onset at full severity."""
        return self.end > self.onset and self.severity >= FULL_SEVERITY[0]

    def stopped(self, step: int) -> Episode | None:
        """The same episode ended from `step` on; None when it has not begun by then."""
        if self.start >= step:
            return None
        return self if self.end <= step else replace(self, end=step)


class Schedule:
    """Episodes and maintenance windows of a fleet, worked out on demand and kept."""

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self.layout = Layout(spec)
        self._episodes: dict[int, tuple[Episode, ...]] = {}
        self._windows: dict[int, tuple[Window, ...]] = {}

    def windows(self, server: int) -> tuple[Window, ...]:
        """Planned maintenance of a server."""
        if server not in self._windows:
            self._windows[server] = tuple(windows(self.spec, server))
        return self._windows[server]

    def episodes(self, server: int) -> tuple[Episode, ...]:
        """All episodes of a server that start within the span: its own, then those that reach it from upstream."""
        if server not in self._episodes:
            found = _own_episodes(self, server)
            for edge in self.layout.upstreams(server):
                found += [self.follow(cause, edge) for cause in self.episodes(edge.upstream) if cause.strikes]
            self._episodes[server] = tuple(
                episode
                for episode in found
                if episode.start < self.spec.steps
                and not (episode.cause and _overlaps(episode.start, episode.end, self.windows(server)))
            )
        return self._episodes[server]

    def follow(self, cause: Episode, edge: Dependency) -> Episode:
        """What an upstream server's incident does to a dependant: later, and as badly only with the edge's strength."""
        name = f"{cause.incident}>{self.layout.name(edge.downstream)}"
        draws = named_stream(self.spec.seed, f"cascade/{name}")
        lag = int(draws.integers(LAG_STEPS[0], LAG_STEPS[1] + 1))
        whole = draws.random() < edge.strength
        severity = float(draws.uniform(*(FULL_SEVERITY if whole else MILD_SEVERITY)))
        onset = cause.onset + lag
        end = max(onset + SHORTEST_IMPACT, cause.end + int(draws.integers(1, 4)))
        return Episode(name, edge.downstream, KINDS[CASCADED], cause.incident, cause.onset, onset, end, severity)


def draw_kind(options: Sequence[tuple[Kind, float]], moment: int, draw: float) -> Kind:
    """The kind that a uniform draw picks at a Unix time; the busy kinds are rare outside business hours."""
    factor = BUSY_WEIGHT if is_business_hour(moment) else QUIET_WEIGHT
    weights = np.cumsum([weight * (factor if kind.busy else 1.0) for kind, weight in options])
    return options[int(np.searchsorted(weights, draw * weights[-1], side="right"))][0]


def in_steps(hours: tuple[float, float], draw: float) -> int:
    """A length in steps, log-uniform between two lengths in hours (both 0 is 0)."""
    low, high = hours
    return round(STEPS_PER_HOUR * low * (high / low) ** draw) if low else 0


def _own_episodes(schedule: Schedule, server: int) -> list[Episode]:
    spec = schedule.spec
    if not spec.incidents_per_day:
        return []
    draws = stream(spec.seed, server, Stream.EPISODES)
    options = kinds_of(schedule.layout.profile(server))
    gap = _mean_gap(spec, options)
    name = schedule.layout.name(server)
    found: list[Episode] = []
    free = 0
    while True:
        start = free + 1 + int(draws.exponential(gap))
        uniform = draws.random(6)
        if start >= spec.steps:
            return found
        kind = draw_kind(options, spec.start_seconds + start * STEP_SECONDS, uniform[0])
        lead = 0 if uniform[1] < spec.sudden_share else in_steps(kind.lead_hours, uniform[2])
        impact = max(SHORTEST_IMPACT, in_steps(kind.impact_hours, uniform[3]))
        start = _clear_of(schedule.windows(server), start, lead + impact + kind.repair_steps)
        end = start + lead + impact
        if uniform[4] < spec.fizzle_share and lead >= 4:
            end = start + int(lead * (0.6 + 0.35 * uniform[4] / spec.fizzle_share))
        severity = FULL_SEVERITY[0] + (FULL_SEVERITY[1] - FULL_SEVERITY[0]) * uniform[5]
        incident = f"{name}-{len(found) + 1:03d}"
        found.append(Episode(incident, server, kind, None, start, start + lead, end, severity))
        free = end + kind.repair_steps + REST_STEPS


def _mean_gap(spec: FleetSpec, options: Sequence[tuple[Kind, float]]) -> float:
    """Mean gap in steps that makes `incidents_per_day`, given how long the episodes themselves last."""
    weights = np.array([weight for _, weight in options])
    lengths = [_mean(kind.lead_hours) * (1 - spec.sudden_share) + _mean(kind.impact_hours) for kind, _ in options]
    episode = float(np.average(lengths, weights=weights)) * STEPS_PER_HOUR + REST_STEPS
    announced = [not kind.sudden for kind, _ in options]
    fizzling = spec.fizzle_share * (1 - spec.sudden_share) * float(np.average(announced, weights=weights))
    cycle = 24 * STEPS_PER_HOUR * (1 - fizzling) / spec.incidents_per_day
    return max(float(STEPS_PER_HOUR), cycle - episode)


def _mean(hours: tuple[float, float]) -> float:
    """Mean of the log-uniform distribution between two lengths."""
    low, high = hours
    return (high - low) / float(np.log(high / low)) if low else 0.0


def _overlaps(start: int, end: int, planned: Sequence[Window]) -> bool:
    return any(start < window.end and window.start < end for window in planned)


def _clear_of(planned: Sequence[Window], start: int, length: int) -> int:
    """The first start at or after `start` at which `length` steps meet no maintenance window."""
    for window in planned:
        if start < window.end + STEPS_PER_HOUR and window.start < start + length:
            start = window.end + STEPS_PER_HOUR
    return start
