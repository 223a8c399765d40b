"""Samples on their way in: JSON rows to a table of the contract, and the rows that are refused, each with its rule."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES, metric
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import STEP_SECONDS
from serve_app.schemas import QuarantinedValue

Row = Mapping[str, object]

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
    """Good rows (server, profile or null, timestamp, metrics), and one entry for each broken rule of the others.

    `rows` has the number of each good row in the request.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    quarantined: list[QuarantinedValue] = field(default_factory=list)

    def without(self, servers: Collection[str], rule: str) -> list[QuarantinedValue]:
        """What is quarantined when, in addition, the good rows of these servers break `rule`."""
        outside = pc.is_in(self.table["server"], value_set=pa.array(sorted(servers), pa.string()))
        picked = self.table.filter(outside)
        stamps = pc.cast(picked["timestamp"], pa.string()).to_pylist()
        rows = zip(self.rows[np.asarray(outside)].tolist(), picked["server"].to_pylist(), stamps, strict=True)
        more = [
            QuarantinedValue(row=row, server=server, timestamp=stamp, column="server", value=server, rule=rule)
            for row, server, stamp in rows
        ]
        return sorted([*self.quarantined, *more], key=lambda value: value.row)


@dataclass
class _Columns:
    numbers: list[int] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    profiles: list[str | None] = field(default_factory=list)
    seconds: list[int] = field(default_factory=list)
    metrics: dict[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """The times that a sample may have, Unix seconds, both included."""

    oldest: int
    latest: int

    @classmethod
    def at(cls, now: datetime, retention: timedelta) -> Span:
        """Not older than `retention`, and not more than one step in the future of `now`."""
        return cls(int((now - retention).timestamp()), int(now.timestamp()) + STEP_SECONDS)


TOO_LATE = "is not more than one step in the future"
NO_VALUE = "has at least one metric with a value"
A_NAME = f"is printable text of at most {MAX_NAME} characters"
TOO_OLD = "is not older than the service keeps samples"


def check_rows(rows: Sequence[object], now: datetime, retention: timedelta) -> Checked:
    """Check rows as they came in a request, JSON values of any shape.

    Good rows lie on the 5-minute grid, satisfy the contract, are not more than one step in the future of `now` and
    not older than `retention`. Of two rows with the same server and time in one batch the first is kept. A missing or
    null metric has no value; `state` is ignored, since the state follows from the metrics.
    """
    columns, quarantined = _Columns(), list[QuarantinedValue]()
    span = Span.at(now, retention)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            quarantined.append(_refused(number, {}, BadValueError("", row, "is an object of column and value")))
            continue
        try:
            _read_row(row, number, columns, span)
        except BadValueError as bad:
            quarantined.append(_refused(number, row, bad))
    return against_contract(_table(columns), np.array(columns.numbers, np.int64), quarantined)


def against_contract(table: pa.Table, rows: npt.NDArray[np.int64], quarantined: Sequence[QuarantinedValue]) -> Checked:
    """The rows that satisfy the contract, in its types; `rows` are their numbers in the request.

    Raises `ContractError` for a table that cannot be one of samples.
    """
    table, rows, unnamed = _named(table, rows)
    quarantined = [*quarantined, *unnamed]
    if not table.num_rows:
        return Checked(table, rows, sorted(quarantined, key=lambda value: value.row))
    found = validate(table)
    entries = found.quarantine.drop_columns(["file"]).to_pylist()
    more = [_shortened({**entry, "row": int(rows[entry["row"]])}) for entry in entries]
    kept = np.ones(table.num_rows, dtype=bool)
    kept[[entry["row"] for entry in entries]] = False
    everything = sorted([*quarantined, *more], key=lambda value: value.row)
    return Checked(_stored_types(found.good), rows[kept], everything)


def _named(
    table: pa.Table, rows: npt.NDArray[np.int64]
) -> tuple[pa.Table, npt.NDArray[np.int64], list[QuarantinedValue]]:
    """The rows of servers with a name that people can ask for, and the others."""
    wrong = [name for name in pc.unique(table["server"]).to_pylist() if name is not None and not is_name(name)]
    if not wrong:
        return table, rows, []
    bad = np.asarray(pc.is_in(table["server"], value_set=pa.array(wrong, pa.string())))
    picked = table.filter(pa.array(bad))
    stamps = pc.cast(picked["timestamp"], pa.string()).to_pylist()
    entries = [
        QuarantinedValue(row=row, server=_short(name), timestamp=at, column="server", value=_short(name), rule=A_NAME)
        for row, name, at in zip(rows[bad].tolist(), picked["server"].to_pylist(), stamps, strict=True)
    ]
    return table.filter(pa.array(~bad)), rows[~bad], entries


def _stored_types(table: pa.Table) -> pa.Table:
    """Metrics in the contract's types."""
    for place, name in enumerate(table.schema.names):
        if name in METRIC_NAMES:
            kind = pa.type_for_alias(metric(name).dtype)
            table = table.set_column(place, name, pc.cast(table[name], kind, safe=False))
    return table


def _shortened(entry: dict[str, Any]) -> QuarantinedValue:
    texts = {name: _short(entry[name]) for name in ("server", "timestamp", "value")}
    return QuarantinedValue(row=entry["row"], column=entry["column"], rule=entry["rule"], **texts)


def _read_row(row: Row, number: int, columns: _Columns, span: Span) -> None:
    server = _text(row, "server", MAX_NAME)
    if not server:
        raise BadValueError("server", row.get("server"), "is named")
    profile = _text(row, "profile", MAX_PROFILE)
    seconds = _seconds(row.get("timestamp"))
    if seconds > span.latest:
        raise BadValueError("timestamp", row.get("timestamp"), TOO_LATE)
    if seconds < span.oldest:
        raise BadValueError("timestamp", row.get("timestamp"), TOO_OLD)
    given = {name: _number(name, value) for name, value in row.items() if name not in _TEXT and value is not None}
    values = {name: value for name, value in given.items() if not math.isnan(value)}
    if not values:
        raise BadValueError("timestamp", row.get("timestamp"), NO_VALUE)
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
    if not isinstance(value, str) or not is_name(value, longest):
        raise BadValueError(column, value, f"is printable text of at most {longest} characters")
    return value


def is_name(text: str, longest: int = MAX_NAME) -> bool:
    """Whether a text can be the name of a server."""
    return len(text) <= longest and text.isprintable()


def _seconds(value: object) -> int:
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


def _number(name: str, value: object) -> float:
    if name not in METRIC_NAMES:
        raise BadValueError(name, value, "is a column of the contract")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadValueError(name, value, "is a number")
    try:
        return float(value)
    except OverflowError:
        raise BadValueError(name, value, "is a number") from None


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
