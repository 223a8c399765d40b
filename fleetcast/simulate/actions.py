"""What can be done to a simulated server: remediation actions and forced starts, as inputs that change its future."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Action(IntEnum):
    """Remediation on one server; the value of an input is explained beside each."""

    RESTART = 0  # of the service: frees memory and connections
    REBOOT = 1  # two steps without samples, then a fresh boot
    ADD_CAPACITY = 2  # value: capacity afterwards, relative to the server's own; demand is divided by it
    CLEAR_DISK = 3  # the filesystem falls to its low mark
    THROTTLE = 4  # value: share of the demand that is let in from then on
    DRAIN = 5  # value: share of the demand that stays from then on


FORCE = 100  # start an episode: `kind`, and the lead in steps as value; it strikes for sure
FORCE_TOTAL = 101  # the same, and whatever depends on the server is struck whole
END_FORCED = 102  # end a forced episode, as if repaired

INPUT = np.dtype([("step", "i8"), ("server", "i8"), ("code", "i4"), ("kind", "i4"), ("value", "f4")], align=True)
NO_INPUTS = np.zeros(0, INPUT)


def between(inputs: npt.NDArray[np.void], first: int, steps: int) -> npt.NDArray[np.void]:
    """The inputs of `steps` steps from `first` on."""
    return inputs[(inputs["step"] >= first) & (inputs["step"] < first + steps)]
