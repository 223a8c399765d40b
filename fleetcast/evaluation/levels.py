"""Quantiles at other levels than a forecaster has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.errors import UsageError


def checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """The levels as a tuple. Raises `UsageError` unless they rise strictly within (0, 1)."""
    found = tuple(float(level) for level in levels)
    if not found or not all(0 < level < 1 for level in found) or any(np.diff(found) <= 0):
        raise UsageError(f"quantile levels must rise strictly between 0 and 1, found {list(found)}")
    return found


def column_of(levels: Sequence[float], level: float) -> int | None:
    """Position of a level among others, None when it is not there."""
    near = np.flatnonzero(np.isclose(levels, level, rtol=0, atol=1e-9))
    return int(near[0]) if len(near) else None


def at_levels(
    quantiles: npt.NDArray[np.float32], have: Sequence[float], want: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Quantiles [..., len(want)] from quantiles [..., len(have)].

    A level that is there is taken as it is; one between two is linear between them; one outside is the outermost.
    """
    exact = [column_of(have, level) for level in want]
    position = np.interp(want, have, np.arange(len(have)))
    position = np.array([place if column is None else column for place, column in zip(position, exact, strict=True)])
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, len(have) - 1)
    share = (position - lower).astype(np.float32)
    return np.asarray(quantiles[..., lower] + (quantiles[..., upper] - quantiles[..., lower]) * share)
