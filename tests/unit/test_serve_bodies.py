"""Bodies of samples: JSON and Arrow say the same, and what is neither is refused whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.errors import ContractError, UsageError
from serve_app.bodies import check_arrow, check_json
from serve_app.intake import Checked
from serve_app.services import TooLargeError

NOW = datetime(2026, 1, 12, 10, 2, tzinfo=UTC)
KEPT = timedelta(days=31)
CELL = datetime(2026, 1, 12, 9, 55, tzinfo=UTC)
MOST = 1000


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def table(**columns: Any) -> pa.Table:
    plain = {
        "server": ["ppweb0001"],
        "timestamp": pa.array([CELL], pa.timestamp("us", "UTC")),
        "cpu_utilization": [0.5],
    }
    return pa.table({**plain, **columns})


def arrow(body: bytes) -> Checked:
    return check_arrow(body, MOST, NOW, KEPT)


NAMES = st.sampled_from(["a", "b", "", "x\ny", "n" * 254, None])
MOMENTS = st.sampled_from(
    [
        CELL,
        CELL - timedelta(minutes=5),
        CELL + timedelta(minutes=1),
        CELL + timedelta(hours=1),
        CELL - timedelta(days=40),
    ]
)
NUMBERS = st.one_of(st.none(), st.floats(-1, 5), st.just(float("nan")))
ROWS = st.lists(st.tuples(NAMES, st.sampled_from([None, "database", "y\t"]), MOMENTS, NUMBERS, NUMBERS), max_size=8)


@given(ROWS, st.sampled_from(["s", "ms", "us", "ns"]), st.booleans())
def test_the_same_rows_fare_the_same_in_both_forms(rows: list[Any], unit: str, words: bool) -> None:
    servers, profiles, moments, cpu, memory = zip(*rows, strict=True) if rows else ([], [], [], [], [])
    text = pa.dictionary(pa.int32(), pa.string()) if words else pa.string()
    columns = {
        "server": pa.array(servers, pa.string()).cast(text),
        "profile": pa.array(profiles, pa.string()),
        "timestamp": pa.array(moments, pa.timestamp(unit, "Europe/Berlin")),
        "cpu_utilization": pa.array(cpu, pa.float64()),
        "memory_used": pa.array(memory, pa.float64()),
    }
    names = ("server", "profile", "timestamp", "cpu_utilization", "memory_used")
    plain = [dict(zip(names, row, strict=True)) for row in rows]
    body = json.dumps({"samples": [{**row, "timestamp": row["timestamp"].isoformat()} for row in plain]})
    left, right = arrow(stream(pa.table(columns))), check_json(body.encode(), MOST, NOW, KEPT)
    assert left.rows.tolist() == right.rows.tolist()
    assert {value.row for value in left.quarantined} == {value.row for value in right.quarantined}
    for name in set(right.table.schema.names):
        np.testing.assert_equal(
            [np.nan if value is None else value for value in left.table[name].to_pylist()],
            [np.nan if value is None else value for value in right.table[name].to_pylist()],
        )


def test_what_a_stream_breaks_is_said_with_row_column_value_and_rule() -> None:
    found = arrow(stream(table(server=["a"], cpu_utilization=[9.0])))
    (only,) = found.quarantined
    assert (only.row, only.server, only.column, only.value) == (0, "a", "cpu_utilization", "9")
    assert "hard range" in only.rule


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no Arrow IPC stream"),
        (b"not arrow at all" * 10, "no Arrow IPC stream"),
        (stream(table())[:200], "no Arrow IPC stream"),
        (stream(table(nonsense=[1])), "nonsense"),
        (stream(table().drop_columns(["server"])), "missing: server"),
        (stream(table(timestamp=[300])), "time zone"),
        (stream(table(timestamp=pa.array([CELL.replace(tzinfo=None)]))), "time zone"),
        (stream(table(server=[7])), "expected a string"),
        (stream(table(cpu_utilization=["x"])), "expected a number"),
        (stream(table(cpu_utilization=[[0.5]])), "expected a number"),
        (stream(table().drop_columns(["cpu_utilization"])), "no metric"),
    ],
)
def test_what_is_no_stream_of_samples_is_refused_whole(body: bytes, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        arrow(body)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_small_body_that_says_it_is_large_is_refused_before_it_is_unpacked(compression: str) -> None:
    zeros = table(
        server=pa.array(["a"] * 900).dictionary_encode(),
        timestamp=pa.array([CELL] * 900, pa.timestamp("us", "UTC")),
        cpu_utilization=np.zeros(900),
    )
    with pytest.raises(ContractError, match="without compression"):
        arrow(stream(zeros, compression))


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_stream_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    body = bytearray(stream(table()))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = arrow(bytes(body))
    except (ContractError, TooLargeError):
        return
    assert found.table.num_rows + len({value.row for value in found.quarantined}) <= MOST


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"samples": {}}', b'{"samples": [], "x": 1}', b"[" * 100_000, b"\xff", b"1" * 10_000]
)
def test_what_is_no_object_of_samples_is_refused_whole(body: bytes) -> None:
    with pytest.raises(UsageError, match="body is no"):
        check_json(body, MOST, NOW, KEPT)


def test_more_rows_than_the_limit_are_refused() -> None:
    many = pa.concat_tables([table()] * (MOST + 1))
    with pytest.raises(TooLargeError, match="send parts"):
        arrow(stream(many))
    with pytest.raises(TooLargeError, match="send parts"):
        check_json(json.dumps({"samples": [{}] * (MOST + 1)}).encode(), MOST, NOW, KEPT)
