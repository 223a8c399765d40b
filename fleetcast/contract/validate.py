"""Validation of sample tables: good rows, and a quarantine that names file, row, column, value and rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES, in_contract_order, metric
from fleetcast.contract.schema import QUARANTINE
from fleetcast.contract.vocabulary import PROFILES, STATES, STEP_SECONDS, UNKNOWN
from fleetcast.errors import ContractError

_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass
class Validation:
    """What validation found. `good` keeps the input's columns and order; `quarantine` has one row a broken rule."""

    good: pa.Table
    quarantine: pa.Table
    rows: int

    @cached_property
    def soft(self) -> dict[str, int]:
        """`soft_counts` of the good rows."""
        return soft_counts(self.good)

    @property
    def quarantined_rows(self) -> int:
        """Number of input rows that were set aside."""
        return self.rows - int(self.good.num_rows)


def validate(table: pa.Table, file: str = "", on_grid: bool = True) -> Validation:
    """Check a table of samples against the contract.

    Args:
        table: columns `server`, `profile`, `timestamp` (any timestamp type with a zone) and metrics of the contract.
            `state` is allowed.
        file: where the rows came from; repeated in the quarantine.
        on_grid: whether timestamps must lie on the 5-minute grid.

    Raises:
        ContractError: a required column is missing, or a column is not of the contract.
    """
    _check_columns(table.schema)
    breaks = list(_broken_rules(table, on_grid))
    bad = np.zeros(table.num_rows, dtype=bool)
    for _, _, rows in breaks:
        bad |= rows
    quarantine = pa.concat_tables([_quarantine(table, file, *found) for found in breaks] or [QUARANTINE.empty_table()])
    good = table.filter(pa.array(~bad)) if breaks else table
    return Validation(good, quarantine.sort_by([("row", "ascending")]), table.num_rows)


def soft_counts(table: pa.Table) -> dict[str, int]:
    """Number of values outside each metric's soft range; `profile` counts the words that the contract does not know."""
    counts = {}
    for name in _metrics_of(table.schema):
        low, high = metric(name).soft
        values = _floats(table, name)
        with np.errstate(invalid="ignore"):
            counts[name] = int(((values < low) | (values > high)).sum())
    unknown = pc.invert(pc.is_in(table["profile"], value_set=pa.array(PROFILES)))
    counts["profile"] = int(pc.sum(pc.fill_null(unknown, True)).as_py() or 0)
    return {name: count for name, count in counts.items() if count}


def _metrics_of(schema: pa.Schema) -> tuple[str, ...]:
    return in_contract_order(name for name in schema.names if name in METRIC_NAMES)


def _check_columns(schema: pa.Schema) -> None:
    missing = [name for name in ("server", "profile", "timestamp") if name not in schema.names]
    if missing:
        raise ContractError(f"required columns are missing: {', '.join(missing)}; found {', '.join(schema.names)}")
    allowed = {"server", "profile", "timestamp", "state", *METRIC_NAMES}
    foreign = [name for name in schema.names if name not in allowed]
    if foreign:
        raise ContractError(f"columns that the contract does not have: {', '.join(foreign)}")
    if not _metrics_of(schema):
        raise ContractError(f"no metric column: the contract has {', '.join(METRIC_NAMES)}")
    if not pa.types.is_timestamp(schema.field("timestamp").type) or schema.field("timestamp").type.tz is None:
        raise ContractError(f"timestamp is {schema.field('timestamp').type}, expected a timestamp with a time zone")
    words = [name for name in ("server", "profile", "state") if name in schema.names]
    wrong = [name for name in words if not _is_text(schema.field(name).type)]
    wrong += [name for name in _metrics_of(schema) if not _is_number(schema.field(name).type)]
    if wrong:
        found = ", ".join(f"{name} is {schema.field(name).type}" for name in wrong)
        raise ContractError(f"{found}: names must be strings and metrics integers or floats")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    return np.asarray(pc.cast(table[name], pa.float64()).to_numpy(), dtype=np.float64)


def _broken_rules(table: pa.Table, on_grid: bool) -> Iterable[tuple[str, str, npt.NDArray[np.bool_]]]:
    """(column, rule, rows [bool]) of each rule that some row breaks."""
    server = pc.fill_null(table["server"], "")
    known = np.asarray(pc.is_valid(table["timestamp"]))
    time = np.asarray(pc.fill_null(pc.cast(table["timestamp"], pa.int64()), 0))
    step = STEP_SECONDS * _TICKS[table.schema.field("timestamp").type.unit]
    checks: list[tuple[str, str, npt.NDArray[np.bool_]]] = [
        ("server", "is named", np.asarray(pc.equal(server, ""))),
        ("timestamp", "is set", ~known),
        ("timestamp", "is the first row of its server and time", _repeats(server, time) & known),
    ]
    if on_grid:
        checks.append(("timestamp", f"lies on the {STEP_SECONDS} s grid", known & (time % step != 0)))
    if "state" in table.schema.names:
        words = pa.array([*STATES, UNKNOWN])
        checks.append(("state", "is a state of the contract", np.asarray(pc.invert(pc.is_in(table["state"], words)))))
    names = _metrics_of(table.schema)
    matrix = np.stack([_floats(table, name) for name in names], axis=1)
    for column, name in enumerate(names):
        low, high = metric(name).hard
        values = matrix[:, column]
        with np.errstate(invalid="ignore"):
            outside = (values < low) | (values > high)
        checks.append((name, f"lies in the hard range [{low:g}, {high:g}]", outside))
    empty = np.asarray(np.isnan(matrix).all(axis=1))
    checks.append((names[0], "at least one metric has a value", empty))
    return [check for check in checks if check[2].any()]


def _repeats(server: pa.ChunkedArray, time: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether an earlier row has the same server and time."""
    codes = np.asarray(server.combine_chunks().dictionary_encode().indices)
    later = (codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & (time[1:] > time[:-1]))
    if later.all():  # server by server in order of time, as most tables are
        return np.zeros(len(time), dtype=bool)
    order = np.lexsort((np.arange(len(time)), time, codes))
    same = (np.diff(codes[order]) == 0) & (np.diff(time[order]) == 0)
    repeats = np.zeros(len(time), dtype=bool)
    repeats[order[1:]] = same
    return repeats


def _quarantine(table: pa.Table, file: str, column: str, rule: str, bad: npt.NDArray[np.bool_]) -> pa.Table:
    rows = np.flatnonzero(bad)
    picked = table.take(pa.array(rows))
    return pa.table(
        {
            "file": pa.array([file] * len(rows), pa.string()),
            "row": pa.array(rows, pa.int64()),
            "server": picked["server"].cast(pa.string()),
            "timestamp": picked["timestamp"].cast(pa.string()),
            "column": pa.array([column] * len(rows), pa.string()),
            "value": picked[column].cast(pa.string()),
            "rule": pa.array([rule] * len(rows), pa.string()),
        },
        schema=QUARANTINE,
    )
