"""Times of the week: weekdays and hours in a time zone, for mute times, active times and maintenance windows."""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"(\d{2}):(\d{2})")


def _minutes(value: object) -> int:
    """Minutes since midnight of HH:MM, up to 24:00."""
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    minutes = int(found[1]) * 60 + int(found[2]) if found and int(found[2]) < 60 else -1
    if not 0 <= minutes <= 24 * 60:
        raise ValueError('a time of day is written "09:30" (in quotation marks), up to "24:00"')
    return minutes


Clock = Annotated[int, BeforeValidator(_minutes)]


class Span(BaseModel):
    """From `start` up to `end`, within one day; a night is two spans."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Clock
    end: Clock

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise ValueError("a span ends after it starts: write a night as two, up to 24:00 and from 00:00")
        return self


class TimeInterval(BaseModel):
    """On these weekdays, at these times; without `times` the whole day, without `weekdays` every day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weekdays: list[str] = Field(default_factory=list, description='"monday" or "monday:friday"')
    times: list[Span] = Field(default_factory=list)
    timezone: str = "UTC"

    @field_validator("weekdays")
    @classmethod
    def _known_days(cls, value: list[str]) -> list[str]:
        for item in value:
            first, _, last = item.partition(":")
            names = (first, last or first)
            if any(name not in DAYS for name in names) or DAYS.index(names[0]) > DAYS.index(names[1]):
                raise ValueError(f"{item!r} is not a weekday or a range like monday:friday")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is not a time zone such as America/New_York") from None
        return value

    def contains(self, moment: datetime) -> bool:
        """Whether a moment lies in it."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        at = _of_day(local.time())
        on_day = not self.weekdays or any(_covers(item, local.weekday()) for item in self.weekdays)
        return on_day and (not self.times or any(span.start <= at < span.end for span in self.times))


def _covers(item: str, weekday: int) -> bool:
    first, _, last = item.partition(":")
    return DAYS.index(first) <= weekday <= DAYS.index(last or first)


def _of_day(moment: time) -> float:
    return moment.hour * 60 + moment.minute + moment.second / 60
