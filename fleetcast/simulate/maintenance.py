"""Planned maintenance: a window in every second weekend night, known long ahead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR
from fleetcast.simulate.calendar import TIMEZONE
from fleetcast.simulate.randomness import Stream, uniform_table
from fleetcast.simulate.spec import FleetSpec

KNOWN_AHEAD_DAYS = 14  # windows are planned this long beyond the span
REBOOT_SHARE = 0.7
NIGHT_STARTS = 8  # windows start on the half hours from 01:00
_LATEST = timedelta(hours=12)  # a window that began this long before a span is over
IN_WINDOW, OFFLINE, BOOTS = 1, 2, 4  # bits of a plan


@dataclass(frozen=True)
class Window:
    """Steps `start` to `end` - 1 are planned maintenance; in `offline_start` to `offline_end` - 1 there is no sample.

    Steps count from the Unix epoch. Where `offline_end` is beyond `offline_start` the server boots at `offline_end`.
    """

    start: int
    end: int
    offline_start: int
    offline_end: int


def windows(spec: FleetSpec, servers: Sequence[int], first: int, last: int) -> list[list[Window]]:
    """The windows of each server that start from step `first` (or shortly before) up to step `last`, in order.

    A window never touches the first step of the fleet.
    """
    draws = uniform_table(spec.seed, np.asarray(servers, np.int64), Stream.MAINTENANCE, 4)
    nights = _nights(first, last)
    found: list[list[Window]] = []
    for row in draws:
        weekday, fortnight = 5 + int(row[0] * 2), int(row[1] * 2)
        delay = 6 * int(row[2] * NIGHT_STARTS)
        length = STEPS_PER_HOUR + int(row[3] * (STEPS_PER_HOUR + 1))
        mine = [(week, step + delay) for day, week, step in nights if day == weekday and week % 2 == fortnight]
        found.append([_window(row, week, start, length) for week, start in mine if start > spec.first_step])
    return found


@lru_cache(maxsize=256)
def plans(spec: FleetSpec, servers: tuple[int, ...], first: int, steps: int) -> npt.NDArray[np.uint8]:
    """Maintenance on the grid [server, time]: bits `IN_WINDOW`, `OFFLINE`, `BOOTS` of `steps` steps from `first`.

    Kept for the next call; not to be changed.
    """
    plan = np.zeros((len(servers), steps), np.uint8)
    for row, found in zip(plan, windows(spec, servers, first, first + steps), strict=True):
        for window in found:
            row[max(0, window.start - first) : max(0, window.end - first)] |= IN_WINDOW
            row[max(0, window.offline_start - first) : max(0, window.offline_end - first)] |= OFFLINE
            boot = window.offline_end - first
            if window.offline_end > window.offline_start and 0 <= boot < steps:
                row[boot] |= BOOTS
    return plan


def _window(row: npt.NDArray[np.float32], week: int, start: int, length: int) -> Window:
    turn = week // 2 % 3  # the same server is not down at the same time and as long each time
    down = start + 2 + int(row[4 + turn] * 3)
    steps = 2 + int(row[7 + turn] * 5) if row[10 + turn] < REBOOT_SHARE else 0
    return Window(start, start + length, down, down + steps)


@lru_cache(maxsize=16)
def _nights(first: int, last: int) -> tuple[tuple[int, int, int], ...]:
    """(weekday, number of the week, step of 01:00 local time) of the weekend nights between two steps."""
    zone = ZoneInfo(TIMEZONE)
    day = (datetime.fromtimestamp(first * STEP_SECONDS, UTC) - _LATEST).astimezone(zone).date()
    until = datetime.fromtimestamp(last * STEP_SECONDS, UTC).astimezone(zone).date()
    found = []
    while day <= until:
        if day.weekday() >= 5:
            local = datetime(day.year, day.month, day.day, 1, tzinfo=zone)
            found.append((day.weekday(), day.toordinal() // 7, int(local.timestamp()) // STEP_SECONDS))
        day += timedelta(days=1)
    return tuple(found)
