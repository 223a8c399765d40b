"""The latent state of a server: all that its future depends on, and its first value.

A simulated server is a Markov process: the next step follows from this record, the calendar, what its upstreams do,
inputs (scenarios, remediation) and fresh random numbers. What has been decided is here; what has not been decided yet
(when a precursor strikes, whether it fizzles, when an impact ends) is drawn when its time comes. So a copy of the
record, continued with other random numbers, is a fair sample of the future.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled
from fleetcast.simulate.arithmetic import normal_pair
from fleetcast.simulate.randomness import FLEET, Stream, philox

QUIET, PRECURSOR, IMPACT, RECOVERY = 0, 1, 2, 3  # phases of an episode

# AR(1) noises with unit variance, and their coefficients.
NOISES = ("slow", "fast", "system", "iowait", "memory_noise", "swap", "receive", "transmit", "connections", "load")
MEMORIES = (0.985, 0.6, 0.5, 0.8, 0.97, 0.99, 0.5, 0.5, 0.5, 0.4)

STATE = np.dtype(
    [
        *((name, "f4") for name in NOISES),
        ("burst", "f4"),  # relative extra demand that fades
        ("activity", "f4"),  # mean demand of the last hour, roughly
        ("pressure", "f4"),  # memory pressure of the last half hour, roughly
        ("disk", "f8"),  # bytes ratio above the filesystem's low mark
        ("uptime", "f8"),  # seconds since boot at the last step
        ("begun", "?"),
        ("batch", "f4"),  # extra demand of the batch work that runs, 0 for none
        ("batch_age", "i4"),
        ("capacity", "f4"),  # demand is divided by it
        ("admitted", "f4"),  # share of the demand that is let in
        ("freed", "f4"),  # share of the memory that the last restart freed and that is not back yet
        ("down", "i4"),  # steps without samples that are left
        ("rest", "i4"),  # steps until the next episode may begin
        # The server's own episode, then the one that came from upstream.
        ("phase", "i4"),
        ("kind", "i4"),
        ("age", "i4"),  # steps since the onset, or since the recovery began
        ("progress", "f4"),  # of the precursor, strikes at 1
        ("rate", "f4"),  # expected progress a step
        ("severity", "f4"),
        ("intensity", "f4"),
        ("start", "i8"),
        ("onset", "i8"),
        ("forced", "?"),
        ("total", "?"),
        ("followed", "i4"),  # as `phase`, of the episode from upstream
        ("edge", "i4"),  # which upstream
        ("follow_age", "i4"),
        ("follow_severity", "f4"),
        ("follow_intensity", "f4"),
        ("follow_whole", "?"),
        ("follow_total", "?"),
        ("follow_start", "i8"),
        ("follow_onset", "i8"),
    ],
    align=True,
)
FLEET_STATE = np.dtype([("common", "f4"), ("shock", "f4")], align=True)
_INITIAL = 2000  # counters of the stream of traits, beyond those of the traits
_TRAITS = int(Stream.TRAITS)


def initial_state(seed: int, servers: npt.NDArray[np.int64], traits: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """A running, healthy fleet: records `STATE`, shape [len(servers)], noises drawn from their stationary law."""
    state = np.zeros(len(servers), STATE)
    drawn = np.empty((len(servers), 12), np.float32)
    _draw(seed, servers, drawn)
    for column, name in enumerate(NOISES):
        state[name] = drawn[:, column]
    state["disk"] = traits["disk_at"]
    state["uptime"] = traits["boot"] - 300  # one step before the first
    state["capacity"] = state["admitted"] = 1
    return state


def initial_fleet_state(seed: int) -> npt.NDArray[np.void]:
    """State of what the whole fleet shares: record `FLEET_STATE`, shape [1]."""
    state = np.zeros(1, FLEET_STATE)
    drawn = np.empty((1, 12), np.float32)
    _draw(seed, np.array([FLEET]), drawn)
    state["common"] = drawn[0, 0]
    return state


@compiled
def _draw(seed: int, servers: Any, out: Any) -> None:
    for row in range(len(servers)):
        for call in range(3):
            a, b, c, d = philox(_INITIAL + call, servers[row], _TRAITS, 0, seed)
            out[row, 4 * call], out[row, 4 * call + 1] = normal_pair(np.uint32(a), np.uint32(b))
            out[row, 4 * call + 2], out[row, 4 * call + 3] = normal_pair(np.uint32(c), np.uint32(d))
