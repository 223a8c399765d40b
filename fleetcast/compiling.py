"""How loops are compiled: Numba without fast-math, so that every machine gives the same bits.

Division by zero gives infinity, as in NumPy; a check for it would keep loops from being vectorised. What is kept on
disk (Numba's cache, beside the source or in the user's cache folder) is machine code of this package alone, and is used
only while the sources of its folder are those that it was made from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
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
    """A function that Python calls; its machine code is kept for the next process where a folder can be written.

    It runs without the interpreter's lock, so that threads can share the work.

    The compiled functions that it calls must be in the same folder.
    """
    try:
        made: Any = njit(error_model="numpy", cache=True, nogil=True)(function)
    except RuntimeError:  # no folder for the cache: compiled anew in each process
        return cast(Function, njit(error_model="numpy", nogil=True)(function))
    # Numba looks at the function's own file alone, but its code holds that of functions in others.
    made._cache._cache_file._source_stamp = _sources(Path(function.__code__.co_filename).parent)
    return cast(Function, made)


@cache
def _sources(folder: Path) -> str:
    """Digest of a folder's sources."""
    digest = sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
