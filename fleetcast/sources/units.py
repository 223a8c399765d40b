"""Units that a mapping may name, and how they become the contract's."""

from __future__ import annotations

from typing import NamedTuple


class Unit(NamedTuple):
    """`factor` times a number in this unit is the number in the base unit of its dimension."""

    dimension: str
    factor: float


UNITS: dict[str, Unit] = {
    "ratio": Unit("ratio", 1.0),
    "percent": Unit("ratio", 0.01),
    "B": Unit("size", 1.0),
    "KB": Unit("size", 1e3),
    "MB": Unit("size", 1e6),
    "GB": Unit("size", 1e9),
    "TB": Unit("size", 1e12),
    "KiB": Unit("size", 2.0**10),
    "MiB": Unit("size", 2.0**20),
    "GiB": Unit("size", 2.0**30),
    "TiB": Unit("size", 2.0**40),
    "B/s": Unit("bytes a second", 1.0),
    "KB/s": Unit("bytes a second", 1e3),
    "MB/s": Unit("bytes a second", 1e6),
    "GB/s": Unit("bytes a second", 1e9),
    "KiB/s": Unit("bytes a second", 2.0**10),
    "MiB/s": Unit("bytes a second", 2.0**20),
    "B/min": Unit("bytes a second", 1 / 60),
    "B/5min": Unit("bytes a second", 1 / 300),
    "kbit/s": Unit("bytes a second", 1e3 / 8),
    "Mbit/s": Unit("bytes a second", 1e6 / 8),
    "MHz": Unit("frequency", 1e6),
    "GHz": Unit("frequency", 1e9),
    "count": Unit("count", 1.0),
    "1/s": Unit("events a second", 1.0),
    "1/min": Unit("events a second", 1 / 60),
    "ms": Unit("time", 1e-3),
    "s": Unit("time", 1.0),
    "min": Unit("time", 60.0),
    "h": Unit("time", 3600.0),
    "d": Unit("time", 86400.0),
}

_DIMENSIONS = {
    "1": "ratio",
    "By/s": "bytes a second",
    "{connection}": "count",
    "{process}/{core}": "count",
    "{fault}/s": "events a second",
    "s": "time",
}


def dimension_of(contract_unit: str) -> str:
    """The dimension that a mapped unit must have for a metric in this unit of the contract."""
    return _DIMENSIONS[contract_unit]


def unit(name: str) -> Unit:
    """The unit of this name. Raises `ValueError` with the known names."""
    if name not in UNITS:
        raise ValueError(f"unknown unit {name!r}; known are {', '.join(UNITS)}")
    return UNITS[name]
