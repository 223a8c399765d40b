"""Numbers as people read them: per cent, human units, durations, times in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from fleetcast.contract.metrics import METRICS
from fleetcast.contract.vocabulary import PROFILES

Value = TypeVar("Value")

MISSING = "–"
UNITS = {metric.name: metric.unit for metric in METRICS}
_SUFFIX = {"{connection}": "", "{process}/{core}": "", "{fault}/s": " /s"}


def percent(value: float | None) -> str:
    """A ratio as per cent; what is neither 0 nor 1 is never rounded to it."""
    if value is None:
        return MISSING
    if 0 < value < 0.001:
        return "< 0.1 %"
    if 0.995 <= value < 1:
        return "> 99 %"
    return f"{value * 100:.1f} %" if 0 < abs(value) < 0.0995 else f"{value * 100:.0f} %"


def scaled(value: float, unit: str) -> str:
    """A value with a decimal prefix: 1234567 and "B/s" is "1.2 MB/s"."""
    size = abs(value)
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= factor:
            number = value / factor
            return f"{number:.1f} {prefix}{unit}" if abs(number) < 100 else f"{number:.0f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as the two largest units: "2 h 10 min"."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if abs(whole) < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{number} {word}" for number, word in parts if number) if days < 2 else _days(days, hours)


def _days(days: int, hours: int) -> str:
    return f"{days} d {hours} h" if hours else f"{days} d"


def ahead(seconds: float | None) -> str:
    """How far ahead something lies; 0 is now."""
    return "now" if seconds == 0 else duration(seconds)


def quantity(value: float | None, unit: str) -> str:
    """A value of a contract unit (UCUM) for people; "1" is a ratio."""
    if value is None:
        return MISSING
    if unit == "1":
        return percent(value)
    if unit == "By/s":
        return scaled(value, "B/s")
    if unit == "s":
        return duration(value)
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number}{_SUFFIX.get(unit, f' {unit}')}"


def change(value: float, unit: str) -> str:
    """A difference of a contract unit, with its sign."""
    size = quantity(abs(value), unit)
    return size if size.startswith("<") else f"{'+' if value >= 0 else '−'}{size}"


def metric_value(metric: str, value: float | None) -> str:
    """A value of a contract metric for people."""
    return quantity(value, UNITS.get(metric, ""))


def money(value: float | None, cents: bool = False) -> str:
    """US dollars; whole ones unless `cents`."""
    if value is None:
        return MISSING
    sign = "−" if value < 0 else ""
    return f"{sign}${abs(value):,.2f}" if cents else f"{sign}${abs(value):,.0f}"


def moment(value: datetime | None) -> str:
    """A time with its day, UTC."""
    return MISSING if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def hour(value: datetime | None) -> str:
    """A time of day, UTC."""
    return MISSING if value is None else f"{value:%H:%M} UTC"


def by_profile(found: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Items by profile in the contract's order, profiles that it does not know last."""
    order = {name: place for place, name in enumerate(PROFILES)}
    return sorted(found.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))


def plural(count: int, word: str) -> str:
    """A count and its word: "1 server", "2 servers"."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def listed(words: Iterable[str]) -> str:
    """Words in a row, or a dash."""
    return ", ".join(words) or MISSING
