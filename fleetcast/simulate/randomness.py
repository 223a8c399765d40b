"""Counter-based random numbers: each follows from seed, server, time, purpose and sample, and from nothing else.

Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the key is the
seed, the counter is (time step, server, purpose, sample). Sample 0 is what happens; the oracle draws from the others.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled, inlined
from fleetcast.simulate.arithmetic import F, normal_pair

FLEET = 0xFFFFFFFF  # stands for the whole fleet where a server's index is asked for
BLOCK = 512  # steps that the compiled loops work on at a time; row r of a scratch array starts at r x BLOCK
_U = np.uint64
_LOW, _SHIFT = _U(0xFFFFFFFF), _U(32)
_M0, _M1, _W0, _W1 = _U(0xD2511F53), _U(0xCD9E8D57), _U(0x9E3779B9), _U(0xBB67AE85)


class Stream(IntEnum):
    """What four words a server and step are used for."""

    NOISE = 0  # to 3: twelve normal numbers, then two normal and two uniform ones
    EVENTS = 4
    BEGIN = 5
    STRIKE = 6
    CASCADE = 7
    BATCH = 8
    SHOCK = 9
    TRAITS = 10
    MAINTENANCE = 16
    TOPOLOGY = 17
    DIRT = 18
    SCENARIO = 19


@compiled
def _round(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    p0, p1 = _M0 * c0, _M1 * c2
    return (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _LOW


@inlined
def philox(step: Any, server: Any, stream: Any, sample: Any, seed: Any) -> Any:
    """Four uint32 words (as uint64) of one counter."""
    c0, c1, c2, c3 = _U(step) & _LOW, _U(server) & _LOW, _U(stream), _U(sample)
    k0, k1 = _U(seed) & _LOW, _U(seed) >> _SHIFT
    for _ in range(10):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@compiled
def uniform(word: Any) -> Any:
    """A float32 in (0, 1) from a word: 23 bits, never 0 or 1."""
    return (F(np.int32(word >> _U(9))) + F(0.5)) * F(1.1920928955078125e-07)


@compiled
def uniforms(step: Any, server: Any, stream: Any, sample: Any, seed: Any) -> Any:
    """Four float32 in (0, 1) of one counter."""
    a, b, c, d = philox(step, server, stream, sample, seed)
    return uniform(a), uniform(b), uniform(c), uniform(d)


@compiled
def one_normal(step: Any, server: Any, stream: Any, sample: Any, seed: Any) -> Any:
    """One standard normal float32 of a counter."""
    a, b, _, _ = philox(step, server, stream, sample, seed)
    return normal_pair(np.uint32(a), np.uint32(b))[0]


@compiled
def fill_words(words: Any, row: int, step: int, count: int, server: int, stream: int, sample: int, seed: int) -> None:
    """Write the words of `count` steps from `step` on into rows `row` to `row` + 3 of a flat uint32 scratch array."""
    out = words[row * BLOCK : (row + 4) * BLOCK]
    for i in range(count):
        a, b, c, d = philox(step + i, server, stream, sample, seed)
        out[i] = np.uint32(a)
        out[BLOCK + i] = np.uint32(b)
        out[2 * BLOCK + i] = np.uint32(c)
        out[3 * BLOCK + i] = np.uint32(d)


@compiled
def fill_normals(words: Any, normals: Any, row: int, count: int) -> None:
    """Turn rows `row` and `row` + 1 of the words into standard normal numbers in the same rows of `normals`."""
    source, out = words[row * BLOCK : (row + 2) * BLOCK], normals[row * BLOCK : (row + 2) * BLOCK]
    for i in range(count):
        one, other = normal_pair(source[i], source[BLOCK + i])
        out[i] = one
        out[BLOCK + i] = other


@compiled
def _uniform_table(seed: int, servers: Any, stream: int, calls: int, out: Any) -> None:
    for row in range(len(servers)):
        for call in range(calls):
            a, b, c, d = uniforms(call, servers[row], stream, 0, seed)
            out[row, 4 * call], out[row, 4 * call + 1] = a, b
            out[row, 4 * call + 2], out[row, 4 * call + 3] = c, d


def uniform_table(seed: int, servers: npt.NDArray[np.int64], stream: Stream, calls: int) -> npt.NDArray[np.float32]:
    """Uniform numbers of each server that do not depend on time, shape [len(servers), 4 x calls]."""
    out = np.empty((len(servers), 4 * calls), np.float32)
    _uniform_table(seed, servers, int(stream), calls, out)
    return out
