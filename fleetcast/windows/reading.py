"""Stretches of a file's tables, read in one call without the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from fleetcast.compiling import compiled_and_kept

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_pread: Any = types.ExternalFunction("pread", types.intp(types.intc, types.voidptr, types.uintp, types.int64))


@compiled_and_kept
def read_stretches(
    file: int, begin: int, length: int, places: Ints, firsts: Ints, outside: np.float32, into: Floats
) -> int:
    """Read stretches of a table [place, time, column] of float32 that begins at a byte of a file.

    Args:
        file: its descriptor.
        begin: the table's first byte.
        length: steps of its time axis.
        places, firsts: place and first step of each stretch [stretch].
        outside: what the last column has outside of the time axis; the others have NaN there.
        into: filled [stretch, time, column].

    Returns the first stretch that cannot be read, -1 when all are.
    """
    steps, width = into.shape[1], into.shape[2]
    for stretch in range(len(into)):
        low, high = max(firsts[stretch], 0), min(firsts[stretch] + steps, length)
        for step in range(steps):
            if not low <= firsts[stretch] + step < high:
                into[stretch, step] = np.nan
                into[stretch, step, width - 1] = outside
        done, wanted = 0, max(high - low, 0) * width
        room = into[stretch].reshape(-1)[max(low - firsts[stretch], 0) * width :]
        at = begin + (places[stretch] * length + low) * width * 4
        while done < wanted:
            found = _pread(file, room[done:].ctypes, (wanted - done) * 4, at + done * 4)
            if found <= 0 or found % 4:
                return stretch
            done += found // 4
    return -1
