"""Loops that fill what is known ahead, in the encoder and the decoder; slots are as in `fill_encoder`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled_and_kept
from fleetcast.windows.sums import mean_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_ZERO = np.float32(0)


@compiled_and_kept
def fill_known(
    origins: Ints,
    offsets: Ints,
    calendar: Floats,
    calendar_origin: int,
    calendar_slots: Ints,
    positions: Floats,
    position_slot: int,
    statics: Floats,
    empty: int,
    empty_end: int,
    tensor: Floats,
) -> None:
    """Calendar, position, statics and zeros.

    Args:
        origins: the windows' origins on the fleet's time axis.
        offsets: first step of each token, relative to the origin.
        calendar: [time, variable]; step 0 of the fleet's axis is at `calendar_origin`.
        calendar_slots, position_slot: their places.
        positions: of each token.
        statics: [window, variable], which have the first places.
        empty, empty_end: first place of the zeros, and the first one after them.
        tensor: filled [window, token, slot].
    """
    for window in range(len(origins)):
        for token in range(len(offsets)):
            into = tensor[window, token]
            time = calendar[origins[window] + offsets[token] + calendar_origin]
            for number in range(len(calendar_slots)):
                into[calendar_slots[number]] = time[number]
            into[position_slot] = positions[token]
            for slot in range(statics.shape[1]):
                into[slot] = statics[window, slot]
            for slot in range(empty, empty_end):
                into[slot] = _ZERO


@compiled_and_kept
def fill_planned(
    servers: Ints,
    origins: Ints,
    offsets: Ints,
    span_starts: Ints,
    spans: Ints,
    pool: int,
    slot: int,
    tensor: Floats,
) -> None:
    """Planned maintenance: the share of each token's first `pool` steps.

    Args:
        servers, origins: the windows.
        offsets: first step of each token, relative to the origin, ascending.
        span_starts: where each server's spans begin, and where the last one's end, [server + 1].
        spans: (first step, first step after) on the fleet's axis.
        pool: steps of a token.
        slot: place of the variable.
        tensor: filled [window, token, slot].
    """
    steps = np.empty(pool, np.float32)
    for window in range(len(servers)):
        low, high = span_starts[servers[window]], span_starts[servers[window] + 1]
        some = False
        for span in range(low, high):
            reached = spans[span, 0] < origins[window] + offsets[-1] + pool
            some |= reached and spans[span, 1] > origins[window] + offsets[0]
        if not some:
            tensor[window, :, slot] = _ZERO
            continue
        for token in range(len(offsets)):
            for step in range(pool):
                time = origins[window] + offsets[token] + step
                steps[step] = _ZERO
                for span in range(low, high):
                    if spans[span, 0] <= time < spans[span, 1]:
                        steps[step] = np.float32(1)
            tensor[window, token, slot] = mean_of(steps, 0, pool)
