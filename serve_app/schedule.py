"""When a forecast cycle is due.

A sample at grid time t stands for the cell [t, t + 300 s), so at clock time T the newest complete cell starts one step
before the last grid time. A cycle's origin is the start of the newest complete cell, and its forecast starts one step
after the origin. The cycle waits `settle` after the cell has ended, so that its samples can come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetcast.clock import STEP_SECONDS, floor_to_step

STEP = timedelta(seconds=STEP_SECONDS)
OVERDUE_STEPS = 2


@dataclass(frozen=True)
class Due:
    """The origin to forecast from now, with the steps skipped since the last one, or None and the time to wait for."""

    origin: datetime | None
    skipped: int
    next_at: datetime


def newest_origin(now: datetime, settle: timedelta) -> datetime:
    """Start of the newest cell that ended at least `settle` before `now`."""
    return floor_to_step(now - settle) - STEP


def due(now: datetime, settle: timedelta, last: datetime | None) -> Due:
    """Whether a cycle is due, after the one from origin `last`.

    Each origin is forecast once; a clock that was set back starts again from its own newest origin.
    """
    newest = newest_origin(now, settle)
    next_at = newest + 2 * STEP + settle
    if newest == last:
        return Due(None, 0, next_at)
    skipped = 0 if last is None else max(0, (newest - last) // STEP - 1)
    return Due(newest, skipped, next_at)


def is_overdue(now: datetime, settle: timedelta, last: datetime) -> bool:
    """Whether the forecast from origin `last` is more than two steps behind (or ahead of) the newest origin."""
    return abs(newest_origin(now, settle) - last) > OVERDUE_STEPS * STEP
