"""Samples on their way in: JSON rows to a table of the contract, and the rows that are refused, each with its rule."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import STEP_SECONDS
from serve_app.schemas import QuarantinedValue

Row = Mapping[str, str | float | None]

MAX_NAME = 253
MAX_PROFILE = 64
_TEXT = ("server", "profile", "timestamp", "state")


class BadValueError(ValueError):
    """A value that a row cannot have: `column`, `value` and the `rule` it breaks."""

    def __init__(self, column: str, value: object, rule: str) -> None:
        self.column, self.value, self.rule = column, value, rule
        super().__init__(f"{column} {value!r}: {rule}")


@dataclass
class Checked:
    """Good rows (server, profile or null, timestamp, metrics), and one entry for each broken rule of the others."""

    table: pa.Table
    quarantined: list[QuarantinedValue] = field(default_factory=list)


@dataclass
class _Columns:
    numbers: list[int] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    profiles: list[str | None] = field(default_factory=list)
    seconds: list[int] = field(default_factory=list)
    metrics: dict[str, list[float | None]] = field(default_factory=dict)


def check_rows(rows: Sequence[Row], now: datetime, retention: timedelta) -> Checked:
    """Check rows as they came in a request.

    Good rows lie on the 5-minute grid, satisfy the contract, are not more than one step in the future of `now` and
    not older than `retention`. Of two rows with the same server and time in one batch the first is kept. A missing or
    null metric has no value; `state` is ignored, since the state follows from the metrics.
    """
    columns, quarantined = _Columns(), list[QuarantinedValue]()
    latest = int(now.timestamp()) + STEP_SECONDS
    oldest = int((now - retention).timestamp())
    for number, row in enumerate(rows):
        try:
            _read_row(row, number, columns, oldest, latest)
        except BadValueError as bad:
            quarantined.append(_refused(number, row, bad))
    table = _table(columns)
    if table.num_rows and columns.metrics:
        found = validate(table)
        for entry in found.quarantine.to_pylist():
            del entry["file"]
            entry["row"] = columns.numbers[entry["row"]]
            quarantined.append(QuarantinedValue(**entry))
        table = found.good
    return Checked(table, sorted(quarantined, key=lambda value: value.row))


def rows_of(
    servers: Collection[str], rows: Sequence[Row], quarantined: Sequence[QuarantinedValue], rule: str
) -> list[QuarantinedValue]:
    """The quarantine of a request with, in addition, the good rows of servers that break `rule`."""
    before = {value.row for value in quarantined}
    more = [
        _refused(number, row, BadValueError("server", row.get("server"), rule))
        for number, row in enumerate(rows)
        if number not in before and row.get("server") in servers
    ]
    return sorted([*quarantined, *more], key=lambda value: value.row)


def _read_row(row: Row, number: int, columns: _Columns, oldest: int, latest: int) -> None:
    server = _text(row, "server", MAX_NAME)
    if not server:
        raise BadValueError("server", row.get("server"), "is named")
    profile = _text(row, "profile", MAX_PROFILE)
    seconds = _seconds(row.get("timestamp"))
    if seconds > latest:
        raise BadValueError("timestamp", row.get("timestamp"), "is not more than one step in the future")
    if seconds < oldest:
        raise BadValueError("timestamp", row.get("timestamp"), "is not older than the service keeps samples")
    given = {name: _number(name, value) for name, value in row.items() if name not in _TEXT and value is not None}
    values = {name: value for name, value in given.items() if not math.isnan(value)}
    if not values:
        raise BadValueError("timestamp", row.get("timestamp"), "has at least one metric with a value")
    for name in values.keys() - columns.metrics.keys():
        columns.metrics[name] = [None] * len(columns.numbers)
    for name, series in columns.metrics.items():
        series.append(values.get(name))
    columns.numbers.append(number)
    columns.servers.append(server)
    columns.profiles.append(profile)
    columns.seconds.append(seconds)


def _text(row: Row, column: str, longest: int) -> str | None:
    value = row.get(column)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest or not value.isprintable():
        raise BadValueError(column, value, f"is printable text of at most {longest} characters")
    return value


def _seconds(value: str | float | None) -> int:
    rule = "is an ISO 8601 time with a zone, or Unix seconds"
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise BadValueError("timestamp", value, rule) from None
        if moment.tzinfo is None:
            raise BadValueError("timestamp", value, rule)
        exact = moment.timestamp()
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11:
        exact = float(value)
    else:
        raise BadValueError("timestamp", value, rule)
    if exact % STEP_SECONDS:
        raise BadValueError("timestamp", value, f"lies on the {STEP_SECONDS} s grid")
    return int(exact)


def _number(name: str, value: str | float | None) -> float:
    if name not in METRIC_NAMES:
        raise BadValueError(name, value, "is a column of the contract")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadValueError(name, value, "is a number")
    return float(value)


def _refused(number: int, row: Row, bad: BadValueError) -> QuarantinedValue:
    return QuarantinedValue(
        row=number,
        server=_short(row.get("server")),
        timestamp=_short(row.get("timestamp")),
        column=bad.column[:MAX_NAME],
        value=_short(bad.value),
        rule=bad.rule,
    )


def _short(value: object) -> str | None:
    return None if value is None else str(value)[:MAX_NAME]


def _table(columns: _Columns) -> pa.Table:
    arrays = {
        "server": pa.array(columns.servers, pa.string()),
        "profile": pa.array(columns.profiles, pa.string()),
        "timestamp": pc.cast(pa.array(columns.seconds, pa.int64()), TIMESTAMP),
        **{name: pa.array(series, pa.float64()) for name, series in columns.metrics.items()},
    }
    return pa.table(arrays)


def moment_of(seconds: int) -> datetime:
    """UTC time of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)
