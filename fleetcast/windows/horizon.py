"""What is known of a fleet ahead of time; without torch, so that those who only hold samples start quickly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Horizon:
    """What is known of a fleet ahead of time.

    Step i of its time axis of `steps` steps is at `start + i x 300` Unix seconds. `profiles` are codes [server].
    `spans` are the planned maintenance windows as (first step, first step after) on the axis, a server's from
    `span_starts[server]` to `span_starts[server + 1]`.
    """

    start: int
    steps: int
    timezone: str
    profiles: Ints
    span_starts: Ints
    spans: Ints
