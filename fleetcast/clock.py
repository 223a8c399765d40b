"""The one clock: real, or simulated at a given speed, and injected wherever time is needed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from pydantic import BaseModel, Field

STEP_SECONDS = 300


class Clock(Protocol):
    """What the service asks for the time."""

    def now(self) -> datetime:
        """The time now, with time zone UTC."""

    def sleep_seconds(self, until: datetime) -> float:
        """Wall-clock seconds to wait until the clock shows `until` (0 when it is past)."""


class RealClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The time now, UTC."""
        return datetime.fromtimestamp(time.time(), UTC)

    def sleep_seconds(self, until: datetime) -> float:
        """Seconds from now to `until`, at least 0."""
        return max(0.0, (until - self.now()).total_seconds())


class SimulatedClock:
    """Shows `origin` at wall time `anchor` and runs `speed` times as fast as the wall clock.

    Two processes that share the three numbers show the same time.
    """

    def __init__(self, origin: datetime, anchor: float, speed: float) -> None:
        self.origin, self.anchor, self.speed = origin, anchor, speed

    def now(self) -> datetime:
        """The simulated time now, UTC."""
        elapsed = (time.time() - self.anchor) * self.speed
        return datetime.fromtimestamp(self.origin.timestamp() + elapsed, UTC)

    def sleep_seconds(self, until: datetime) -> float:
        """Wall-clock seconds until the simulated clock shows `until`, at least 0."""
        return max(0.0, (until - self.now()).total_seconds() / self.speed)


class ClockSpec(BaseModel):
    """A clock as plain data, so that every process of the service builds the same one."""

    origin: datetime | None = Field(None, description="simulated time at `anchor`; None is the real clock")
    anchor: float = Field(0.0, description="Unix seconds of the wall clock when the clock showed `origin`")
    speed: float = Field(1.0, gt=0, description="simulated seconds a wall-clock second")

    def build(self) -> Clock:
        """The clock that this describes."""
        if self.origin is None:
            return RealClock()
        return SimulatedClock(self.origin, self.anchor, self.speed)


def floor_to_step(moment: datetime, step_seconds: int = STEP_SECONDS) -> datetime:
    """The last grid time at or before `moment`, UTC."""
    seconds = int(moment.timestamp()) // step_seconds * step_seconds
    return datetime.fromtimestamp(seconds, UTC)
