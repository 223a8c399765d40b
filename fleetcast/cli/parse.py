"""Arguments as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleetcast.errors import UsageError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d)")
_SECONDS = {"m": 60, "min": 60, "h": 3600, "d": 86400}


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time; without a zone it is UTC. Raises `UsageError`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a time; write for example 2026-01-31T08:00Z") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_span(text: str | None) -> timedelta | None:
    """A span such as 90m, 72h or 3d. Raises `UsageError`."""
    if text is None:
        return None
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is not a span; write for example 90m, 72h or 3d")
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def parse_words(text: str | None) -> tuple[str, ...] | None:
    """Words between commas."""
    if text is None:
        return None
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise UsageError(f"{text!r} names nothing; write for example cpu_utilization,memory_used")
    return words


def parse_numbers(text: str | None) -> tuple[float, ...] | None:
    """Numbers between commas. Raises `UsageError`."""
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"{text!r} is not a list of numbers; write for example 0.1,0.5,0.9") from None


def parse_count(text: str) -> int | None:
    """A whole number, or `all`, which is None. Raises `UsageError`."""
    if text.strip() == "all":
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a number of windows; write for example 18, or all") from None


def require_local(*paths: Path) -> None:
    """Raise `UsageError` for a URI where only a folder or file of this machine (or a mounted one) will do."""
    for path in paths:
        if re.match(r"[a-z][a-z0-9+]+:/", str(path)):
            raise UsageError(f"{path} is a URI; bundles, reports and forecast tables go to a local or mounted path")
