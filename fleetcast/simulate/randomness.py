"""Random numbers that depend on what they are for and on nothing else: counter-based, one key a purpose."""

from __future__ import annotations

import hashlib
from enum import IntEnum

import numpy as np
import numpy.typing as npt

FLEET = 2**40  # stands for the whole fleet where a server's index is asked for


class Stream(IntEnum):
    """What the numbers of a server are used for."""

    TRAITS = 0
    NOISE = 1
    EPISODES = 2
    MAINTENANCE = 3


def stream(seed: int, server: int, purpose: Stream) -> np.random.Generator:
    """Generator of one server (its index in the fleet) and purpose, independent of all others (Philox 4x64)."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, server * 16 + purpose], np.uint64)))


def named_stream(seed: int, name: str) -> np.random.Generator:
    """Generator for an event that has a name, for example one server's share in another's incident."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest[:16], np.uint64)))


def normals(seed: int, servers: list[int], steps: int, channels: int) -> npt.NDArray[np.float32]:
    """Standard normal numbers, shape [channels, len(servers), steps].

    They are drawn step by step, so that a longer span begins with the numbers of a shorter one.
    """
    drawn = np.empty((channels, len(servers), steps), np.float32)
    for row, server in enumerate(servers):
        generator = stream(seed, server, Stream.NOISE)
        drawn[:, row] = generator.standard_normal((steps, channels), np.float32).T
    return drawn
