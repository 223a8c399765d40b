"""One step of the episodes of one server: arrival, precursor, onset, impact, recovery; its own and those from upstream.

Compiled. A function changes the server's record (`STATE`) and returns bits of what happened at the step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fleetcast.compiling import compiled
from fleetcast.simulate.arithmetic import F, expf, logf, powf
from fleetcast.simulate.kinds import CASCADED, KIND_NAMES, SHORTEST_IMPACT
from fleetcast.simulate.randomness import Stream, uniforms
from fleetcast.simulate.state import IMPACT, PRECURSOR, QUIET, RECOVERY
from fleetcast.simulate.traits import FAST_ONSET

# What happened at a step, or holds at it.
NO_SAMPLE, BOOT, CLEAN_UP, STRIKE, STRIKE_TOTAL, RAGING, MAINTENANCE = 1, 2, 4, 8, 16, 32, 64
REST_STEPS = 24  # no new episode so soon after the last
FADED = 15  # steps after which a recovery is over
LAG_STEPS = (2, 8)  # from an upstream's onset to a dependant's
CASCADED_KIND = KIND_NAMES.index(CASCADED)

EPISODE = np.dtype(
    [
        ("server", "i8"),
        ("kind", "i4"),
        ("full", "?"),  # an incident: it struck at full severity
        ("cause", "i8"),  # upstream server, -1 for none
        ("cause_onset", "i8"),
        ("start", "i8"),
        ("onset", "i8"),  # -1 where it came to nothing
        ("end", "i8"),
    ],
    align=True,
)

_BEGIN, _STRIKE, _CASCADE = int(Stream.BEGIN), int(Stream.STRIKE), int(Stream.CASCADE)
_FADE = F(math.exp(-1 / 3))  # of the intensity in a recovery, a step
_MILD, _MILD_MORE, _FULL, _FULL_MORE = F(0.3), F(0.2), F(0.96), F(0.04)  # severities: least, and up to so much more
_FAST = F(FAST_ONSET)
_RISE = F(2)
_LAG_LOW, _LAG_HIGH = LAG_STEPS


@compiled
def log_uniform(low: Any, high: Any, draw: Any) -> Any:
    """A length between two lengths, uniform in its logarithm; 0 where `low` is 0."""
    return low * expf(draw * logf(high / low)) if low > F(0) else F(0)


@compiled
def log_uniform_hazard(age: Any, low: Any, high: Any) -> Any:
    """Chance that a log-uniform length ends in the step after `age`, given that it has not ended before."""
    a = F(age)
    if a < low:
        return F(0)
    if a + F(1) >= high:
        return F(1)
    return logf((a + F(1)) / a) / logf(high / a)


@compiled
def begin(s: Any, kinds: Any, choice: Any, sudden_share: Any, step: int, server: int, sample: int, seed: int) -> Any:
    """An episode of the server's own begins; True when it strikes at once."""
    a, b, c, _ = uniforms(step, server, _BEGIN, sample, seed)
    kind = 0
    while kind < len(choice) - 1 and a > choice[kind]:
        kind += 1
    sudden = kinds[kind].sudden or b < sudden_share
    lead = max(F(1), log_uniform(kinds[kind].lead_low, kinds[kind].lead_high, c))
    enter(s, kind, F(1) / lead, step)
    s.forced = s.total = False
    return sudden


@compiled
def enter(s: Any, kind: int, rate: Any, step: int) -> None:
    """Put the server's own episode at the start of its precursor."""
    s.phase, s.kind, s.rate, s.start, s.onset = PRECURSOR, kind, rate, step, -1
    s.progress = s.intensity = F(0)
    s.age = 0


@compiled
def strike(s: Any, step: int, server: int, sample: int, seed: int) -> Any:
    """The onset of the server's own episode; returns the bits."""
    a, _, _, _ = uniforms(step, server, _STRIKE, sample, seed)
    s.phase, s.onset, s.age = IMPACT, step, 0
    s.severity = _FULL + _FULL_MORE * a
    return STRIKE | (STRIKE_TOTAL if s.total else 0)


@compiled
def finish(s: Any, kinds: Any, step: int, server: int, sample: int, seed: int, log: Any, count: int) -> Any:
    """End the server's own episode at `step`: written down in `log`; returns (bits, new count)."""
    k = kinds[s.kind]
    struck = s.phase == IMPACT
    row = log[count]
    row.server, row.kind, row.full, row.cause, row.cause_onset = server, s.kind, struck, -1, -1
    row.start, row.onset, row.end = s.start, s.onset, step
    if struck and k.restart:
        s.freed = F(1)
    if struck and k.repair_high > F(0):
        _, b, _, _ = uniforms(step, server, _STRIKE, sample, seed)
        s.down = max(1, int(log_uniform(k.repair_low, k.repair_high, b)))
    s.phase, s.age = RECOVERY, 0
    return (CLEAN_UP if k.disk else 0), count + 1


@compiled
def advance(
    s: Any, kinds: Any, at_onset: Any, fizzle: Any, u: Any, step: int, server: int, sample: int, seed: int,
    log: Any, count: int,
) -> Any:  # fmt: skip
    """A step of an episode of the server's own that is under way; `u` are three uniform numbers. (bits, count)"""
    bits = 0
    k = kinds[s.kind]
    if s.phase == PRECURSOR:
        growth = F(1) if s.forced else -logf(u[0])  # a gamma process: exponential increments with mean 1
        s.progress = min(s.progress + s.rate * growth, F(1))
        s.intensity = max(s.intensity, at_onset * powf(s.progress, k.shape))
        if s.progress >= F(1):
            bits = strike(s, step, server, sample, seed)
        elif u[1] < s.rate * fizzle and not s.forced:
            return finish(s, kinds, step, server, sample, seed, log, count)
    elif s.phase == IMPACT:
        s.age += 1
        low = max(k.impact_low, F(SHORTEST_IMPACT))
        if u[2] < log_uniform_hazard(s.age, low, max(k.impact_high, low + F(1))):
            return finish(s, kinds, step, server, sample, seed, log, count)
    else:
        s.age += 1
        s.intensity *= _FADE
        if s.age >= FADED:
            s.phase, s.rest, s.intensity = QUIET, REST_STEPS, F(0)
    if s.phase == IMPACT:
        s.intensity = max(s.intensity, at_onset + (s.severity - at_onset) * min(F(s.age + 1) / F(k.rise), F(1)))
        bits |= RAGING
    return bits, count


@compiled
def onset_intensity(kinds: Any, kind: int, trait: Any) -> Any:
    """Intensity at the end of the precursor: the slow kinds arrive at the threshold, the fast ones jump past it."""
    driver = kinds[kind].driver
    if driver == 1:
        return trait.onset_memory
    return trait.onset_disk if driver == 2 else _FAST


@compiled
def follow(
    s: Any, strength: Any, raging: Any, u: Any, struck: Any, step: int, server: int, sample: int, seed: int
) -> Any:
    """A step of the episode that came from upstream; True when it is over and has to be written down. (bits, over)"""
    bits = 0
    s.follow_age += 1
    if s.followed == PRECURSOR:
        s.follow_intensity = _FAST * powf(min(F(s.follow_age) / F(_LAG_HIGH), F(1)), F(1.5))
        due = s.follow_age >= _LAG_HIGH or u < F(1) / F(_LAG_HIGH - s.follow_age + 1)
        if s.follow_age >= _LAG_LOW and due and not struck:
            a, b, _, _ = uniforms(step, server, _CASCADE, sample, seed)
            s.follow_whole = s.follow_total or a < strength
            s.follow_severity = (_FULL + _FULL_MORE * b) if s.follow_whole else (_MILD + _MILD_MORE * b)
            s.followed, s.follow_onset, s.follow_age = IMPACT, step, 0
            bits = STRIKE if s.follow_whole else 0
    elif s.followed == IMPACT:
        if s.follow_age >= SHORTEST_IMPACT and not raging and u < F(0.5):
            return 0, True
    else:
        s.follow_intensity *= _FADE
        if s.follow_age >= FADED:
            s.followed, s.follow_intensity = QUIET, F(0)
    if s.followed == IMPACT:
        s.follow_intensity = max(s.follow_intensity, s.follow_severity * min(F(s.follow_age + 1) / _RISE, F(1)))
        bits |= RAGING if s.follow_whole else 0
    return bits, False


@compiled
def finish_followed(s: Any, cause: int, step: int, server: int, log: Any, count: int) -> int:
    """End the episode that came from upstream and write it down; returns the new count."""
    row = log[count]
    row.server, row.kind, row.full, row.cause = server, CASCADED_KIND, s.follow_whole, cause
    row.cause_onset, row.start, row.onset, row.end = s.follow_start, s.follow_start, s.follow_onset, step
    s.followed, s.follow_age = RECOVERY, 0
    return count + 1
