"""Planned maintenance: a window in every second weekend night, known long ahead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR
from fleetcast.simulate.calendar import TIMEZONE
from fleetcast.simulate.randomness import Stream, named_stream, stream
from fleetcast.simulate.spec import FleetSpec

KNOWN_AHEAD_DAYS = 14  # windows are planned this long beyond the span
REBOOT_SHARE = 0.7
NIGHT_STARTS = 8  # windows start on the half hours from 01:00


@dataclass(frozen=True)
class Window:
    """Steps `start` to `end` - 1 are planned maintenance; in `offline_start` to `offline_end` - 1 there is no sample.

    Where `offline_end` is beyond `offline_start` the server boots at `offline_end`.
    """

    start: int
    end: int
    offline_start: int
    offline_end: int


def windows(spec: FleetSpec, server: int) -> list[Window]:
    """The windows of a server that start from the first step until two weeks after the last, in order."""
    draws = stream(spec.seed, server, Stream.MAINTENANCE)
    weekday = 5 + int(draws.integers(2))
    fortnight = int(draws.integers(2))
    slot = int(draws.integers(NIGHT_STARTS))
    length = int(draws.integers(STEPS_PER_HOUR, 2 * STEPS_PER_HOUR + 1))
    zone = ZoneInfo(TIMEZONE)
    first = spec.start.astimezone(zone).date()
    days = int(spec.steps * STEP_SECONDS / 86400) + KNOWN_AHEAD_DAYS
    found = []
    for day in (first + timedelta(days=number) for number in range(days + 1)):
        if day.weekday() != weekday or (day.toordinal() // 7 + fortnight) % 2:
            continue
        start = (_night_hour(day, slot, zone) - spec.start_seconds) // STEP_SECONDS
        if start >= 1:
            found.append(_window(spec, server, start, length))
    return found


def _night_hour(day: date, slot: int, zone: ZoneInfo) -> int:
    local = datetime(day.year, day.month, day.day, 1, tzinfo=zone).astimezone(UTC)
    return int((local + timedelta(minutes=30 * slot)).timestamp())


def _window(spec: FleetSpec, server: int, start: int, length: int) -> Window:
    moment = spec.start_seconds + start * STEP_SECONDS
    draws = named_stream(spec.seed, f"maintenance/{server}/{moment}")
    down = start + int(draws.integers(2, 5))
    steps = int(draws.integers(2, 7)) if draws.random() < REBOOT_SHARE else 0
    return Window(start, start + length, down, down + steps)
