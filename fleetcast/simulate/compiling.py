"""How the simulator's loops are compiled: Numba without fast-math, so that every machine gives the same bits.

Division by zero gives infinity, as in NumPy; a check for it would keep loops from being vectorised. What is kept on
disk (Numba's cache, beside the source or in the user's cache folder) is machine code of this package alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """A function that other compiled functions call."""
    return cast(Function, njit(error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """A function whose body is put into its caller: loops that call it are vectorised only so."""
    return cast(Function, njit(error_model="numpy", inline="always")(function))


def compiled_and_kept(function: Function) -> Function:
    """A function that Python calls; its machine code is kept for the next process."""
    return cast(Function, njit(error_model="numpy", cache=True)(function))
