"""Cells to numbers and times: what cannot be read is marked, never guessed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.errors import MappingError
from fleetcast.sources.mapping import TimeColumn

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_ZONED = r":\d\d.*([zZ]|[+-]\d\d:?\d\d)$"
# Outside of these years a time stamp is a mistake of unit or format (seconds read as milliseconds are January 1970).
FIRST_TIME = int(pd.Timestamp("1990-01-01", tz="UTC").timestamp()) * 10**6
LAST_TIME = int(pd.Timestamp("2100-01-01", tz="UTC").timestamp()) * 10**6


def texts(column: pa.ChunkedArray, missing: Sequence[str] = ("",)) -> pa.ChunkedArray:
    """The cells as text without the blanks around them; null for those that say that there is no value."""
    trimmed = pc.utf8_trim_whitespace(_plain(column).cast(pa.string()))
    return pc.if_else(pc.is_in(trimmed, pa.array(list(missing), pa.string())), pa.scalar(None, pa.string()), trimmed)


def numbers(column: pa.ChunkedArray, missing: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Values with NaN where there is none, and which cells have text that is no decimal number."""
    column = _plain(column)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _floats(column), np.zeros(len(column), dtype=bool)
    text = texts(column, missing)
    readable = pc.match_substring_regex(text, _NUMBER)
    values = _floats(pc.if_else(pc.fill_null(readable, False), text, pa.scalar(None, pa.string())))
    return values, np.asarray(pc.fill_null(pc.invert(readable), False))


def times(column: pa.ChunkedArray, spec: TimeColumn) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Microseconds since 1970 (UTC), and which cells are no time between 1990 and 2100.

    A local time that the zone skips or has twice (the change of summer time) is no time.

    Raises:
        MappingError: the column's type does not go with the mapping's `format`.
    """
    column = _plain(column)
    typed = pa.types.is_timestamp(column.type)
    if typed != (spec.format == "timestamp"):
        expected = "timestamp" if typed else "unix_s, unix_ms, iso or a strptime pattern"
        raise MappingError(f"column {spec.column!r} is {column.type}: its time format must be {expected}")
    if spec.format in ("unix_s", "unix_ms"):
        scale = 10**6 if spec.format == "unix_s" else 10**3
        values, _ = numbers(column, ("",))
        micros = np.rint(np.nan_to_num(values * scale, nan=-1.0).clip(-1.0, LAST_TIME)).astype(np.int64)
    else:
        moments = _typed(column, spec) if typed else _written(texts(column), spec)
        stamps = moments.astype("datetime64[us, UTC]")
        micros = stamps.astype("int64").where(stamps.notna(), -1).to_numpy(dtype=np.int64)
    return micros, (micros < FIRST_TIME) | (micros >= LAST_TIME)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _typed(column: pa.ChunkedArray, spec: TimeColumn) -> pd.Series[pd.Timestamp]:
    series: pd.Series[pd.Timestamp] = pd.Series(column.cast(pa.timestamp("us", column.type.tz), safe=False).to_pandas())
    return series if column.type.tz is not None else _localized(series, spec.zone)


def _written(text: pa.ChunkedArray, spec: TimeColumn) -> pd.Series[pd.Timestamp]:
    series: pd.Series[str] = text.to_pandas()
    if spec.format != "iso":
        if "%z" in spec.format:
            return pd.to_datetime(series, format=spec.format, errors="coerce", utc=True)
        return _localized(pd.to_datetime(series, format=spec.format, errors="coerce"), spec.zone)
    zoned = np.asarray(pc.fill_null(pc.match_substring_regex(text, _ZONED), False))
    absolute = pd.to_datetime(series.where(zoned), format="ISO8601", errors="coerce", utc=True)
    local = _localized(pd.to_datetime(series.where(~zoned), format="ISO8601", errors="coerce"), spec.zone)
    return absolute.where(zoned, local)


def _localized(series: pd.Series[pd.Timestamp], zone: str) -> pd.Series[pd.Timestamp]:
    micros = series.astype("datetime64[us]")
    return micros.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
