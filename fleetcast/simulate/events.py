"""What happens to the servers of a cell over time: episodes, cascades, batch work, maintenance, remediation.

Compiled; servers go in the order of their indices, since a server depends only on earlier ones of its cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled, compiled_and_kept, inlined
from fleetcast.simulate.actions import END_FORCED, FORCE, FORCE_TOTAL, Action
from fleetcast.simulate.arithmetic import F
from fleetcast.simulate.episode_steps import (
    BOOT,
    CASCADED_KIND,
    CLEAN_UP,
    MAINTENANCE,
    NO_SAMPLE,
    RAGING,
    STRIKE,
    STRIKE_TOTAL,
    advance,
    begin,
    enter,
    finish,
    finish_followed,
    follow,
    log_uniform_hazard,
    onset_intensity,
    strike,
)
from fleetcast.simulate.maintenance import BOOTS, IN_WINDOW, OFFLINE
from fleetcast.simulate.randomness import BLOCK, Stream, fill_words, uniform, uniforms
from fleetcast.simulate.state import IMPACT, PRECURSOR, QUIET, RECOVERY

DRAINED = 0.25  # demand left in a maintenance window
FREED = 0.25  # share of memory that a restart frees
_DRAINED, _FREED, _REFILL = (
    F(DRAINED),
    F(FREED),
    F(math.exp(-1 / 12)),
)  # memory comes back with a time constant of an hour
_NOISE, _EVENTS, _BATCH = int(Stream.NOISE), int(Stream.EVENTS), int(Stream.BATCH)
_RESTART, _REBOOT, _CAPACITY = int(Action.RESTART), int(Action.REBOOT), int(Action.ADD_CAPACITY)
_CLEAR, _THROTTLE, _DRAIN = int(Action.CLEAR_DISK), int(Action.THROTTLE), int(Action.DRAIN)
_REBOOT_STEPS = 2
_SMALL = F(1e-4)


@dataclass(frozen=True)
class Effects:
    """What the events of some servers do, all [server, time].

    `demand` and `memory` are factors on the normal course. The intensity of a server's own episode is `own`, its gains
    are row `own_gains` of the gain table; `followed` and `followed_gains` are those of the episode from upstream.
    `flags` are bits of `episode_steps`.
    """

    demand: npt.NDArray[np.float32]
    memory: npt.NDArray[np.float32]
    own: npt.NDArray[np.float32]
    followed: npt.NDArray[np.float32]
    own_gains: npt.NDArray[np.uint8]
    followed_gains: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, servers: int, steps: int) -> Effects:
        """Arrays to be filled by `run_events`."""
        shape = (servers, steps)
        demand, memory, own, followed = (np.empty(shape, np.float32) for _ in range(4))
        own_gains, followed_gains, flags = (np.empty(shape, np.uint8) for _ in range(3))
        return cls(demand, memory, own, followed, own_gains, followed_gains, flags)


@compiled_and_kept
def run_events(
    seed: int, sample: int, first: int, steps: int, servers: Any, traits: Any, state: Any, upstreams: Any,
    strengths: Any, busy: Any, plan: Any, inputs: Any, inputs_from: Any, kinds: Any, choices: Any, hazard: Any,
    batch: Any, fizzle: Any, sudden_share: Any, demand: Any, memory: Any, own: Any, followed: Any, own_gains: Any,
    followed_gains: Any, flags: Any, log: Any,
) -> int:  # fmt: skip
    """Run all servers of a cell from step `first` on; fills the effects and the log, returns the log's length."""
    count = 0
    words = np.empty(8 * BLOCK, np.uint32)
    for row in range(len(servers)):
        s, server, profile = state[row], servers[row], traits[row].profile
        given, last_given, chance, load = inputs_from[row], inputs_from[row + 1], hazard[profile], batch[profile]
        for offset in range(0, steps, BLOCK):
            length = min(BLOCK, steps - offset)
            fill_words(words, 0, first + offset, length, server, _NOISE + 3, sample, seed)
            fill_words(words, 4, first + offset, length, server, _EVENTS, sample, seed)
            for i in range(length):
                t = offset + i
                step = first + t
                planned = (plan[row, t] & IN_WINDOW) != 0
                absent = s.down != 0 or (plan[row, t] & OFFLINE) != 0
                bits = MAINTENANCE if planned else 0
                while given < last_given and inputs[given].step == step:
                    code = inputs[given].code
                    count = _end_followed(s, code, kinds, row, upstreams, servers, step, log, count)
                    more, count = _apply(s, inputs[given], kinds, step, server, sample, seed, log, count)
                    bits |= more
                    given += 1
                if s.phase != QUIET:
                    more, count = _go_on(
                        s,
                        traits[row],
                        planned,
                        absent,
                        kinds,
                        fizzle,
                        words,
                        i,
                        step,
                        server,
                        sample,
                        seed,
                        log,
                        count,
                    )
                    bits |= more
                elif s.rest > 0:
                    s.rest -= 1
                elif _draw(words, 2, i) < chance and not planned and s.down == 0:
                    choice = choices[1 if busy[t] else 0, profile]
                    bits |= _arrive(s, traits[row], kinds, choice, sudden_share, step, server, sample, seed)
                if s.followed != QUIET:
                    more, count = _follow(
                        s, row, t, planned, absent, upstreams, strengths, servers, flags, bits,
                        _draw(words, 7, i), step, sample, seed, log, count,
                    )  # fmt: skip
                    bits |= more
                else:
                    _listen(s, row, t, planned, upstreams, flags, step)
                _run_batch(s, load, planned, _draw(words, 3, i), step, server, sample, seed)
                flags[row, t] = bits | _presence(s, plan[row, t])
                demand[row, t] = (F(1) + s.batch) * (_DRAINED if planned else F(1)) * s.admitted / s.capacity
                memory[row, t] = F(1) - _FREED * s.freed
                s.freed = s.freed * _REFILL if s.freed > _SMALL else F(0)
                own[row, t] = s.intensity
                own_gains[row, t] = s.kind + (len(kinds) if s.phase == RECOVERY else 0)
                followed[row, t] = s.follow_intensity
                followed_gains[row, t] = len(kinds) - 1 + (len(kinds) if s.followed == RECOVERY else 0)
    return count


@inlined
def _draw(words: Any, row: int, i: int) -> Any:
    """The uniform number of a step of the block."""
    return uniform(np.uint64(words[row * BLOCK + i]))


@compiled
def _go_on(
    s: Any, trait: Any, planned: bool, absent: bool, kinds: Any, fizzle: Any, words: Any, i: int, step: int,
    server: int, sample: int, seed: int, log: Any, count: int,
) -> Any:  # fmt: skip
    """A step of the server's own episode; planned maintenance ends it, a server that is away waits. (bits, count)"""
    if planned and s.phase != RECOVERY and not s.forced:
        return finish(s, kinds, step, server, sample, seed, log, count)
    if absent and s.phase == PRECURSOR:
        return 0, count
    u = (_draw(words, 4, i), _draw(words, 5, i), _draw(words, 6, i))
    at_onset = onset_intensity(kinds, s.kind, trait)
    return advance(s, kinds, at_onset, fizzle, u, step, server, sample, seed, log, count)


@compiled
def _arrive(
    s: Any, trait: Any, kinds: Any, choice: Any, sudden_share: Any, step: int, server: int, sample: int, seed: int
) -> int:
    """A new episode of the server's own; one without a precursor strikes at once. Returns the bits."""
    if not begin(s, kinds, choice, sudden_share, step, server, sample, seed):
        return 0
    bits = strike(s, step, server, sample, seed) | RAGING
    at_onset = onset_intensity(kinds, s.kind, trait)
    s.intensity = at_onset + (s.severity - at_onset) / F(kinds[s.kind].rise)
    return int(bits)


@compiled
def _presence(s: Any, plan: int) -> int:
    """Whether there is a sample, and whether the server boots; repair comes to an end here."""
    bits = (NO_SAMPLE if (plan & OFFLINE) != 0 else 0) | (BOOT if (plan & BOOTS) != 0 else 0)
    if s.down > 0:
        s.down -= 1
        bits |= NO_SAMPLE
        if s.down == 0:
            s.down = -1  # boots at the next step
    elif s.down < 0:
        s.down = 0
        bits |= BOOT
    return bits


@compiled
def _listen(s: Any, row: int, t: int, planned: bool, upstreams: Any, flags: Any, step: int) -> None:
    """Take in the onset of an upstream's incident."""
    for edge in range(upstreams.shape[1]):
        upstream = upstreams[row, edge]
        if upstream >= 0 and s.followed == QUIET and not planned and (flags[upstream, t] & STRIKE) != 0:
            s.followed, s.edge, s.follow_age, s.follow_start = PRECURSOR, edge, 0, step
            s.follow_total = (flags[upstream, t] & STRIKE_TOTAL) != 0


@compiled
def _follow(
    s: Any, row: int, t: int, planned: bool, absent: bool, upstreams: Any, strengths: Any, servers: Any, flags: Any,
    bits: int, u: Any, step: int, sample: int, seed: int, log: Any, count: int,
) -> Any:  # fmt: skip
    """A step of the episode that came from upstream. (bits, count)"""
    upstream, server = upstreams[row, s.edge], servers[row]
    more, over = 0, False
    if planned and s.followed == PRECURSOR:
        s.followed, s.follow_intensity = QUIET, F(0)
    elif planned and s.followed == IMPACT:
        over = True
    else:
        raging, struck = (flags[upstream, t] & RAGING) != 0, absent or (bits & STRIKE) != 0
        more, over = follow(s, strengths[row, s.edge], raging, u, struck, step, server, sample, seed)
    if over:
        count = finish_followed(s, servers[upstream], step, server, log, count)
    return more, count


@compiled
def _run_batch(s: Any, load: Any, planned: bool, u: Any, step: int, server: int, sample: int, seed: int) -> None:
    """A step of the batch work, semi-Markov: it comes at a constant rate and lasts for a log-uniform time."""
    if s.batch > F(0):
        s.batch_age += 1
        if u < log_uniform_hazard(s.batch_age, load.low, load.high):
            s.batch = F(0)
    elif u < load.hazard and not planned:
        a, _, _, _ = uniforms(step, server, _BATCH, sample, seed)
        s.batch = load.least + (load.most - load.least) * a
        s.batch_age = 0


@compiled
def _apply(s: Any, given: Any, kinds: Any, step: int, server: int, sample: int, seed: int, log: Any, count: int) -> Any:
    """An input: a forced start, the end of one, or remediation. (bits, count)"""
    code, bits = given.code, 0
    running = s.phase in (PRECURSOR, IMPACT)
    if code in (FORCE, FORCE_TOTAL):
        if running:
            bits, count = finish(s, kinds, step, server, sample, seed, log, count)
        enter(s, given.kind, F(1) / max(given.value, F(1)), step)
        s.forced, s.total = True, code == FORCE_TOTAL
        return bits, count
    ends = s.forced if code == END_FORCED else ((kinds[s.kind].ended_by >> code) & 1) != 0
    if running and ends:
        bits, count = finish(s, kinds, step, server, sample, seed, log, count)
    if code == _RESTART:
        s.freed = F(1)
    elif code == _REBOOT:
        s.freed, s.down = F(1), max(s.down, _REBOOT_STEPS)
    elif code == _CLEAR:
        bits |= CLEAN_UP
    elif code == _CAPACITY:
        s.capacity = max(given.value, F(0.1))
    elif code in (_THROTTLE, _DRAIN):
        s.admitted = min(max(given.value, F(0.05)), F(1))
    return bits, count


@compiled
def _end_followed(
    s: Any, code: int, kinds: Any, row: int, upstreams: Any, servers: Any, step: int, log: Any, count: int
) -> int:
    """An input ends the episode that came from upstream: remediation that helps, or the end of a forced cascade."""
    ends = s.follow_total if code == END_FORCED else ((kinds[CASCADED_KIND].ended_by >> code) & 1) != 0
    if not ends or code in (FORCE, FORCE_TOTAL):
        return count
    if s.followed == PRECURSOR:
        s.followed, s.follow_intensity = QUIET, F(0)
    elif s.followed == IMPACT:
        count = finish_followed(s, servers[upstreams[row, s.edge]], step, servers[row], log, count)
    return count
