"""Validation: a bad row never passes, a good one is never set aside, and the quarantine says where and why."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.metrics import metric
from fleetcast.contract.schema import QUARANTINE
from fleetcast.contract.validate import validate
from fleetcast.errors import ContractError

SCHEMA = pa.schema(
    [
        ("server", pa.string()),
        ("profile", pa.string()),
        ("timestamp", pa.timestamp("ms", tz="UTC")),
        ("cpu_utilization", pa.float64()),
        ("memory_used", pa.float64()),
    ]
)
START = 1_767_600_000_000


def row(number, **changes):
    return {
        "server": "web1",
        "profile": "web_api",
        "timestamp": START + 300_000 * number,
        "cpu_utilization": 0.2,
        "memory_used": 0.5,
    } | changes


def table(rows):
    return pa.Table.from_pylist(rows, SCHEMA)


BAD = {
    "no server": {"server": None},
    "an empty name": {"server": ""},
    "no time": {"timestamp": None},
    "off the grid": {"timestamp": START + 60_000},
    "between the seconds": {"timestamp": START + 1},
    "too high": {"cpu_utilization": 4.01},
    "negative": {"memory_used": -0.01},
    "infinite": {"cpu_utilization": math.inf},
    "no value": {"cpu_utilization": None, "memory_used": math.nan},
}
GOOD = {
    "plain": {},
    "bursting": {"cpu_utilization": 4.0},
    "at the end of the range": {"memory_used": 1.05},
    "one metric missing": {"cpu_utilization": None},
    "an unknown profile": {"profile": "mainframe"},
    "no profile": {"profile": None},
}
KINDS = st.lists(st.sampled_from(sorted(BAD) + sorted(GOOD)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=60)
@given(KINDS)
def test_bad_rows_are_set_aside_and_only_they(kinds):
    rows = [row(number, **(BAD | GOOD)[kind]) for number, kind in enumerate(kinds)]
    stamps = [made["timestamp"] for made in rows]
    bad = {
        number
        for number, kind in enumerate(kinds)
        if kind in BAD or (stamps[number] is not None and stamps[number] in stamps[:number])
    }
    result = validate(table(rows), "part-7")
    expected = table([made for number, made in enumerate(rows) if number not in bad])
    assert result.good.to_pylist() == expected.to_pylist()
    assert set(result.quarantine["row"].to_pylist()) == bad
    assert result.quarantined_rows == len(bad)
    assert result.rows == result.good.num_rows + result.quarantined_rows
    assert set(result.quarantine["file"].to_pylist()) <= {"part-7"}


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["cpu_utilization", "memory_used"]),
    st.floats(allow_nan=False, allow_infinity=True, width=64),
)
def test_a_value_passes_exactly_when_it_lies_in_the_hard_range(name, value):
    low, high = metric(name).hard
    assert validate(table([row(0, **{name: value})])).quarantined_rows == (0 if low <= value <= high else 1)


def test_the_quarantine_names_file_row_column_value_and_rule():
    found = validate(table([row(0), row(1, cpu_utilization=17.5)]), "vm.csv").quarantine
    assert found.schema == QUARANTINE
    assert found.to_pylist() == [
        {
            "file": "vm.csv",
            "row": 1,
            "server": "web1",
            "timestamp": "2026-01-05 08:05:00.000Z",
            "column": "cpu_utilization",
            "value": "17.5",
            "rule": "lies in the hard range [0, 4]",
        }
    ]


def test_a_row_that_breaks_two_rules_has_two_lines_and_counts_once():
    result = validate(table([row(0, server=None, memory_used=9.0)]))
    assert result.quarantine["column"].to_pylist() == ["server", "memory_used"]
    assert result.quarantined_rows == 1


def test_the_first_of_two_rows_of_one_time_is_kept():
    result = validate(table([row(0), row(0, cpu_utilization=0.9), row(0, server="web2")]))
    assert result.good["cpu_utilization"].to_pylist() == [0.2, 0.2]
    assert result.quarantine["row"].to_pylist() == [1]


def test_soft_range_and_unknown_profiles_are_counted_not_set_aside():
    rows = [row(0, cpu_utilization=1.2), row(1, cpu_utilization=1.0), row(2, profile="mainframe"), row(3)]
    result = validate(table(rows))
    assert result.quarantined_rows == 0
    assert result.soft == {"cpu_utilization": 1, "profile": 1}


def test_state_words_are_checked_where_there_is_a_state():
    states = pa.array(["healthy", "on fire", None])
    result = validate(table([row(0), row(1), row(2)]).append_column("state", states))
    assert result.quarantine["value"].to_pylist() == ["on fire", None]


def test_samples_off_the_grid_pass_where_they_may():
    assert validate(table([row(0, timestamp=START + 1)]), on_grid=False).quarantined_rows == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["server"]), "server"),
        (lambda t: t.append_column("temperature", pa.array([1.0])), "temperature"),
        (lambda t: t.drop_columns(["cpu_utilization", "memory_used"]), "no metric"),
        (lambda t: t.set_column(2, "timestamp", pa.array([START])), "timestamp is int64"),
        (lambda t: t.set_column(2, "timestamp", pa.array([START]).cast(pa.timestamp("ms"))), "time zone"),
        (lambda t: t.set_column(3, "cpu_utilization", pa.array(["0.2"])), "cpu_utilization is string"),
        (lambda t: t.set_column(0, "server", pa.array([17])), "server is int64"),
    ],
)
def test_a_table_that_is_not_of_the_contract_is_refused_as_a_whole(change, message):
    with pytest.raises(ContractError, match=message):
        validate(change(table([row(0)])))
