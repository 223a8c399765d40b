"""A fleet that is being simulated: its fixed surroundings, its latent state, and the step from one to the next.

Everything else (datasets, the live feed, the oracle) is a way of running a `World` over some servers and steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled_and_kept
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.vocabulary import PROFILES, STEP_SECONDS, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.simulate.actions import NO_INPUTS
from fleetcast.simulate.arithmetic import F
from fleetcast.simulate.calendar import market_time
from fleetcast.simulate.episode_steps import EPISODE, FADED, REST_STEPS
from fleetcast.simulate.events import Effects, run_events
from fleetcast.simulate.kinds import CASCADED, choice_table, gain_table, kind_table, kinds_of
from fleetcast.simulate.layout import Layout
from fleetcast.simulate.maintenance import plans
from fleetcast.simulate.physics import run_physics
from fleetcast.simulate.profiles import COURSES, HABITS, SMOOTH_STEPS, day_curve
from fleetcast.simulate.randomness import FLEET, Stream, one_normal, uniforms
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.state import initial_fleet_state, initial_state
from fleetcast.simulate.traits import PHASE_STEPS, draw_traits

SHOCKS_PER_DAY = 0.4
BATCH = np.dtype([("hazard", "f4"), ("low", "f4"), ("high", "f4"), ("least", "f4"), ("most", "f4")], align=True)
_SHOCK = int(Stream.SHOCK)
_COMMON, _COMMON_DRIVE, _SHOCK_FADE = F(0.99), F(math.sqrt(1 - 0.99**2)), F(0.93)


@dataclass(frozen=True)
class Surroundings:
    """The calendar of a run of steps: `courses` [profile, time + padding], `busy` and local `slot` [time]."""

    courses: npt.NDArray[np.float32]
    busy: npt.NDArray[np.bool_]
    slot: npt.NDArray[np.int16]


@dataclass
class Cell:
    """Some servers of a cell and all that they depend on, with their latent state; made by `World.cell`.

    `servers` are sorted; `rows` are those that were asked for, the others are there for what they pass on.
    """

    servers: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    traits: npt.NDArray[np.void]
    state: npt.NDArray[np.void]
    upstreams: npt.NDArray[np.int64]
    strengths: npt.NDArray[np.float32]

    @cached_property
    def all_servers(self) -> tuple[int, ...]:
        """The servers as plain numbers."""
        return tuple(self.servers.tolist())

    def copy(self) -> Cell:
        """The same servers with a state of their own."""
        return Cell(self.servers, self.rows, self.traits, self.state.copy(), self.upstreams, self.strengths)


@dataclass(frozen=True)
class Run:
    """What happened in a run: `values` [metric, server, time] but for the last, `uptime` [server, time] float64.

    `flags` [server, time] are bits of `episode_steps`, of the servers asked for; `episodes` (records `EPISODE`) are
    those of all servers of the cells that ended in the run.
    """

    values: npt.NDArray[np.float32]
    uptime: npt.NDArray[np.float64]
    flags: npt.NDArray[np.uint8]
    episodes: npt.NDArray[np.void]


class World:
    """A fleet's surroundings and rules. `steps` everywhere count from the Unix epoch, in units of 5 minutes."""

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self.layout = Layout(spec)
        self.kinds, self.gains, self.choices = kind_table(), gain_table(), choice_table(spec.without_kinds)
        self.hazard = np.array([_hazard(spec, profile) for profile in PROFILES], np.float32)
        self.batch = _batch_table(spec)
        self.fizzle = F(-math.log1p(-spec.fizzle_share))
        self.sudden = F(_sudden_arrivals(spec))

    def fleet_state(self) -> npt.NDArray[np.void]:
        """State of what the whole fleet shares at the start."""
        return initial_fleet_state(self.spec.seed)

    def shared(
        self, state: npt.NDArray[np.void], first: int, steps: int, sample: int = 0
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The fleet's common slow factor and its shocks, each [time]; moves `state` on."""
        common, shock = np.empty(steps, np.float32), np.empty(steps, np.float32)
        busy = surroundings(self.spec.profiles, first, steps).busy
        _run_shared(self.spec.seed, sample, first, busy, state, common, shock)
        return common, shock

    def cell(self, servers: Sequence[int]) -> Cell:
        """These servers of one cell at the start of the fleet."""
        needed = self.layout.with_upstreams(list(servers))
        place = {server: row for row, server in enumerate(needed)}
        upstreams = np.full((len(needed), 2), -1, np.int64)
        strengths = np.zeros((len(needed), 2), np.float32)
        for server in needed if CASCADED not in self.spec.without_kinds else []:
            for number, edge in enumerate(self.layout.upstreams(server)):
                upstreams[place[server], number] = place[edge.upstream]
                strengths[place[server], number] = edge.strength
        indices = np.array(needed, np.int64)
        traits = draw_traits(self.layout, needed)
        rows = np.array([place[server] for server in servers], np.int64)
        return Cell(indices, rows, traits, initial_state(self.spec.seed, indices, traits), upstreams, strengths)

    def events(
        self, cell: Cell, first: int, steps: int, sample: int = 0, inputs: npt.NDArray[np.void] = NO_INPUTS
    ) -> tuple[Effects, npt.NDArray[np.void]]:
        """What happens to a cell's servers (not yet its metrics), and the episodes that ended; moves the state on."""
        effects = Effects.empty(len(cell.servers), steps)
        log = np.zeros(len(cell.servers) * (steps // 10 + 4) + 2 * len(inputs), EPISODE)
        given, given_from = _of_servers(inputs, cell.servers)
        count = run_events(
            self.spec.seed, sample, first, steps, cell.servers, cell.traits, cell.state, cell.upstreams,
            cell.strengths, surroundings(self.spec.profiles, first, steps).busy,
            plans(self.spec, cell.all_servers, first, steps), given, given_from, self.kinds, self.choices, self.hazard,
            self.batch, self.fizzle, self.sudden, effects.demand, effects.memory, effects.own, effects.followed,
            effects.own_gains, effects.followed_gains, effects.flags, log,
        )  # fmt: skip
        return effects, log[:count]

    def run(
        self,
        cell: Cell,
        first: int,
        steps: int,
        shared: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
        sample: int = 0,
        inputs: npt.NDArray[np.void] = NO_INPUTS,
    ) -> Run:
        """Simulate a cell for some steps; moves its state on."""
        effects, episodes = self.events(cell, first, steps, sample, inputs)
        shape = (len(cell.rows), steps)
        values, uptime = np.empty((len(METRIC_NAMES), *shape), np.float32), np.empty(shape)
        around = surroundings(self.spec.profiles, first, steps)
        run_physics(
            self.spec.seed, sample, first, steps, cell.servers, cell.rows, cell.traits, cell.state, around.courses,
            shared[0], shared[1], around.slot, self.gains, F(self.spec.noise), effects.demand, effects.memory,
            effects.own, effects.followed, effects.own_gains, effects.followed_gains, effects.flags, values, uptime,
        )  # fmt: skip
        return Run(values, uptime, effects.flags[cell.rows], episodes)


@lru_cache(maxsize=64)
def surroundings(profiles: tuple[str, ...], first: int, steps: int) -> Surroundings:
    """The calendar of `steps` steps from `first` on, for the profiles that occur."""
    padding = PHASE_STEPS + SMOOTH_STEPS // 2
    market = market_time((first - padding) * STEP_SECONDS, steps + 2 * padding)
    courses = np.zeros((len(PROFILES), steps + 2 * PHASE_STEPS), np.float32)
    for profile in profiles:
        courses[PROFILES.index(profile)] = day_curve(COURSES[profile], market)
    return Surroundings(courses, market.busy[padding:-padding].copy(), market.slot[padding:-padding].copy())


def _of_servers(
    inputs: npt.NDArray[np.void], servers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """The inputs of these servers, sorted by server and step, and where each server's begin."""
    kept = inputs[np.isin(inputs["server"], servers)]
    kept = kept[np.lexsort((kept["step"], kept["server"]))]
    starts = np.searchsorted(kept["server"], servers)
    return kept, np.append(starts, len(kept))


def _batch_table(spec: FleetSpec) -> npt.NDArray[np.void]:
    """Batch work of each profile: chance to begin in a step, lengths in steps, extra demand."""
    table = np.zeros(len(PROFILES), BATCH)
    for row, profile in zip(table, PROFILES, strict=True):
        habit = HABITS[profile]
        row["hazard"] = habit.batch_per_day / STEPS_PER_DAY if spec.noise else 0.0
        row["low"], row["high"] = (hours * STEPS_PER_HOUR for hours in habit.batch_hours)
        row["least"], row["most"] = ((load - 1) * spec.noise for load in habit.batch_load)
    return table


def _hazard(spec: FleetSpec, profile: str) -> float:
    """Chance in a step that an episode begins, which makes `incidents_per_day` given how long episodes last."""
    if not spec.incidents_per_day:
        return 0.0
    options = kinds_of(profile, spec.without_kinds)
    weights = np.array([weight for _, weight in options])
    sudden = _sudden_arrivals(spec)
    lengths = [_mean(kind.lead_hours) * (1 - sudden) + _mean(kind.impact_hours) for kind, _ in options]
    episode = float(np.average(lengths, weights=weights)) * STEPS_PER_HOUR + REST_STEPS + FADED
    announced = [not kind.sudden for kind, _ in options]
    fizzling = spec.fizzle_share * (1 - sudden) * float(np.average(announced, weights=weights))
    cycle = STEPS_PER_DAY * (1 - fizzling) / spec.incidents_per_day
    return 1 / max(float(STEPS_PER_HOUR), cycle - episode)


def _sudden_arrivals(spec: FleetSpec) -> float:
    """Share of the arrivals that strike at once, so that `sudden_share` of the incidents do: some precursors fizzle."""
    share, fizzle = spec.sudden_share, spec.fizzle_share
    return share * (1 - fizzle) / (1 - share * fizzle)


def _mean(hours: tuple[float, float]) -> float:
    """Mean of the log-uniform distribution between two lengths."""
    low, high = hours
    return (high - low) / math.log(high / low) if low else 0.0


@compiled_and_kept
def _run_shared(seed: int, sample: int, first: int, busy: Any, state: Any, common: Any, shock: Any) -> None:
    s = state[0]
    for i in range(len(busy)):
        normal = one_normal(first + i, FLEET, 0, sample, seed)
        a, b, _, _ = uniforms(first + i, FLEET, _SHOCK, sample, seed)
        s.common = s.common * _COMMON + normal * _COMMON_DRIVE
        likely = F(SHOCKS_PER_DAY / STEPS_PER_DAY) * (F(2) if busy[i] else F(0.5))
        s.shock = s.shock * _SHOCK_FADE + (F(0.25) + F(0.35) * b if a < likely else F(0))
        common[i], shock[i] = s.common, s.shock
