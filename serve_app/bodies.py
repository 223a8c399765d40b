"""Request bodies that hold samples: JSON rows, or an Arrow IPC stream. Neither is trusted."""

from __future__ import annotations

import json
import struct
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import ContractError, UsageError
from serve_app.intake import (
    MAX_NAME,
    MAX_PROFILE,
    NO_VALUE,
    TOO_LATE,
    TOO_OLD,
    Checked,
    Span,
    against_contract,
    check_rows,
    is_name,
)
from serve_app.schemas import QuarantinedValue
from serve_app.services import TooLargeError

ARROW = "application/vnd.apache.arrow.stream"
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def check_json(body: bytes, most: int, now: datetime, retention: timedelta) -> Checked:
    """Check `{"samples": [row, ...]}`; see `check_rows`.

    Raises `UsageError` for a body that is no such object and `TooLargeError` for more than `most` rows.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body is no JSON: {error}") from None
    if not isinstance(found, dict) or found.keys() != {"samples"} or not isinstance(found["samples"], list):
        raise UsageError('the body is not {"samples": [{"server": ..., "timestamp": ..., METRIC: ...}, ...]}')
    rows = found["samples"]
    if len(rows) > most:
        raise _too_many(len(rows), most)
    return check_rows(rows, now, retention)


def check_arrow(body: bytes, most: int, now: datetime, retention: timedelta) -> Checked:
    """Check a stream with the columns server, timestamp (with a zone), profile (optional) and metrics.

    The rules are those of `check_rows`. Raises `ContractError` for a body that is no stream or has other columns and
    `TooLargeError` for more than `most` rows.
    """
    table = _read(body, most)
    numbers = np.arange(table.num_rows)
    quarantined: list[QuarantinedValue] = []
    for column, rule, bad in _broken(table, Span.at(now, retention)):
        left = bad & (numbers >= 0)
        quarantined += _entries(table, np.flatnonzero(left), column, rule)
        numbers = np.where(left, -1, numbers)
    good = numbers >= 0
    table = table if good.all() else table.filter(pa.array(good))
    at = table.schema.get_field_index("timestamp")
    table = table.set_column(at, "timestamp", table["timestamp"].cast(TIMESTAMP))
    return against_contract(table, numbers[good], quarantined)


def _too_many(rows: int, most: int) -> TooLargeError:
    return TooLargeError(f"{rows} rows, at most {most} a request: send parts")


def _read(body: bytes, most: int) -> pa.Table:
    try:
        _refuse_compression(body)
        batches, rows = [], 0
        with pa.ipc.open_stream(body) as reader:
            for batch in reader:
                rows += batch.num_rows
                if rows > most:
                    raise _too_many(rows, most)
                batch.validate(full=True)
                batches.append(batch)
            return _columns(pa.Table.from_batches(batches, reader.schema))
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise ContractError(f"the body is no Arrow IPC stream of record batches: {error}") from None


def _refuse_compression(body: bytes) -> None:
    """Buffers say themselves how large they become: a small body could ask for any amount of memory."""
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type not in ("record batch", "dictionary"):
            continue
        head = message.metadata.to_pybytes()
        table = _follow(head, 0)
        found = _follow(head, _slot(head, table, 2) or 0)
        if message.type == "dictionary":
            found = _follow(head, _slot(head, found, 1) or 0)
        if _slot(head, found, 3) is not None:
            raise ContractError("the stream is compressed: send it without compression of its buffers")


def _follow(head: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", head, at)[0])


def _slot(head: bytes, table: int, number: int) -> int | None:
    """Where a flatbuffers table has its field of this number; None when it has none."""
    vtable = table - int(struct.unpack_from("<i", head, table)[0])
    (size,) = struct.unpack_from("<H", head, vtable)
    offset = struct.unpack_from("<H", head, vtable + 4 + 2 * number)[0] if 4 + 2 * number < size else 0
    return table + int(offset) if offset else None


def _columns(table: pa.Table) -> pa.Table:
    """The columns of samples in plain types; `state` is left out, since it follows from the metrics."""
    names = table.schema.names
    if len(set(names)) != len(names):
        raise ContractError(f"columns of the same name: {', '.join(sorted(names))}")
    foreign = [name for name in names if name not in ("server", "profile", "timestamp", "state", *METRIC_NAMES)]
    missing = [name for name in ("server", "timestamp") if name not in names]
    if foreign or missing:
        found = f"columns that the contract does not have: {', '.join(foreign)}" if foreign else ""
        raise ContractError(found or f"required columns are missing: {', '.join(missing)}")
    kind = table.schema.field("timestamp").type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        raise ContractError(f"timestamp is {kind}, expected a timestamp with a time zone")
    columns: dict[str, pa.ChunkedArray] = {"server": _text(table, "server")}
    rows = table.num_rows
    columns["profile"] = (
        _text(table, "profile") if "profile" in names else pa.chunked_array([pa.nulls(rows, pa.string())])
    )
    columns["timestamp"] = table["timestamp"]
    columns |= {name: _floats(table, name) for name in names if name in METRIC_NAMES}
    return pa.table(columns)


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    kind = table.schema.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise ContractError(f"{name} is {kind}, expected a string")
    return table[name].cast(pa.string())


def _floats(table: pa.Table, name: str) -> pa.ChunkedArray:
    kind = table.schema.field(name).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise ContractError(f"{name} is {kind}, expected a number")
    return table[name].cast(pa.float64(), safe=False)


def _broken(table: pa.Table, span: Span) -> list[tuple[str, str, npt.NDArray[np.bool_]]]:
    """(column, rule, rows) of the rules that the contract does not have."""
    second = _TICKS[table.schema.field("timestamp").type.unit]
    ticks = np.asarray(pc.fill_null(pc.cast(table["timestamp"], pa.int64()), 0))
    known = np.asarray(pc.is_valid(table["timestamp"]))
    text = "is printable text of at most {} characters"
    return [
        ("server", text.format(MAX_NAME), _unprintable(table["server"], MAX_NAME)),
        ("profile", text.format(MAX_PROFILE), _unprintable(table["profile"], MAX_PROFILE)),
        ("timestamp", f"lies on the {STEP_SECONDS} s grid", known & (ticks % (STEP_SECONDS * second) != 0)),
        ("timestamp", TOO_LATE, known & (ticks > span.latest * second)),
        ("timestamp", TOO_OLD, known & (ticks < span.oldest * second)),
        ("timestamp", NO_VALUE, _empty(table)),
    ]


def _empty(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Rows in which no metric has a value; such a row must not stand in the way of a later one."""
    metrics = [table[name].to_numpy() for name in table.schema.names if name in METRIC_NAMES]
    empty = np.full(table.num_rows, bool(metrics))
    for values in metrics:
        empty &= np.isnan(values)
    return empty


def _unprintable(column: pa.ChunkedArray, longest: int) -> npt.NDArray[np.bool_]:
    wrong = [name for name in pc.unique(column).to_pylist() if name is not None and not is_name(name, longest)]
    if not wrong:
        return np.zeros(len(column), dtype=bool)
    return np.asarray(pc.is_in(column, value_set=pa.array(wrong, pa.string())))


def _entries(table: pa.Table, rows: npt.NDArray[np.intp], column: str, rule: str) -> list[QuarantinedValue]:
    picked = table.take(pa.array(rows))
    texts = [pc.cast(picked[name], pa.string()).to_pylist() for name in ("server", "timestamp", column)]
    return [
        QuarantinedValue(row=row, server=_short(server), timestamp=stamp, column=column, value=_short(value), rule=rule)
        for row, server, stamp, value in zip(rows.tolist(), *texts, strict=True)
    ]


def _short(text: str | None) -> str | None:
    return None if text is None else text[:MAX_NAME]
