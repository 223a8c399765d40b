"""What the service accepts, what it refuses, and that it says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.intake import check_rows

NOW = datetime(2026, 1, 12, 10, 2, tzinfo=UTC)
KEPT = timedelta(days=31)
CELL = "2026-01-12T09:55:00Z"


def row(**changes: Any) -> dict[str, Any]:
    return {"server": "ppweb0001", "timestamp": CELL, "cpu_utilization": 0.5, **changes}


def refused(*rows: dict[str, Any]) -> list[tuple[int, str, str]]:
    found = check_rows(rows, NOW, KEPT).quarantined
    return [(value.row, value.column, value.rule) for value in found]


def test_good_rows_become_a_table_with_the_profile_left_open() -> None:
    found = check_rows([row(), row(server="db1", profile="database", memory_used=0.4)], NOW, KEPT)
    assert found.quarantined == []
    assert found.table["server"].to_pylist() == ["ppweb0001", "db1"]
    assert found.table["profile"].to_pylist() == [None, "database"]
    assert found.table["memory_used"].to_pylist() == [None, pytest.approx(0.4)]


def test_unix_seconds_and_other_zones_name_the_same_cell() -> None:
    at = datetime.fromisoformat(CELL)
    rows = [row(timestamp=at.timestamp()), row(server="b", timestamp="2026-01-12T04:55:00-05:00")]
    assert check_rows(rows, NOW, KEPT).table["timestamp"].to_pylist() == [at, at]


@pytest.mark.parametrize(
    ("changes", "column", "words"),
    [
        ({"server": ""}, "server", "is named"),
        ({"server": None}, "server", "is named"),
        ({"server": "a\nb"}, "server", "printable"),
        ({"server": "x" * 254}, "server", "at most 253"),
        ({"timestamp": None}, "timestamp", "ISO 8601"),
        ({"timestamp": "2026-01-12T09:55:00"}, "timestamp", "with a zone"),
        ({"timestamp": "yesterday"}, "timestamp", "ISO 8601"),
        ({"timestamp": "2026-01-12T09:56:00Z"}, "timestamp", "grid"),
        ({"timestamp": "2025-11-01T00:00:00Z"}, "timestamp", "older"),
        ({"cpu_utilization": 4.1}, "cpu_utilization", "hard range"),
        ({"cpu_utilization": "0.5"}, "cpu_utilization", "is a number"),
        ({"cpu_utilization": float("inf")}, "cpu_utilization", "hard range"),
        ({"cpu_utilization": None}, "timestamp", "at least one metric"),
        ({"cpu_utilization": float("nan")}, "timestamp", "at least one metric"),
        ({"cpu": 0.5}, "cpu", "column of the contract"),
        ({"cpu_utilization": [0.5]}, "cpu_utilization", "is a number"),
        ({"cpu_utilization": 10**400}, "cpu_utilization", "is a number"),
        ({"server": {"a": 1}}, "server", "printable"),
    ],
)
def test_a_bad_row_is_refused_with_its_rule_and_the_others_are_kept(
    changes: dict[str, Any], column: str, words: str
) -> None:
    found = check_rows([row(server="good"), row(**changes)], NOW, KEPT)
    assert found.table["server"].to_pylist() == ["good"]
    assert [(value.row, value.column) for value in found.quarantined] == [(1, column)]
    assert words in found.quarantined[0].rule


def test_one_step_ahead_of_the_clock_is_accepted_and_more_is_not() -> None:
    assert refused(row(timestamp="2026-01-12T10:05:00Z")) == []
    assert refused(row(timestamp="2026-01-12T10:10:00Z")) == [
        (0, "timestamp", "is not more than one step in the future")
    ]


def test_the_row_number_counts_in_the_request_whatever_was_refused_before_it() -> None:
    found = refused(row(timestamp="?"), row(), row(server="b", memory_used=9.0))
    assert [(number, column) for number, column, _ in found] == [(0, "timestamp"), (2, "memory_used")]


def test_of_two_rows_for_one_cell_in_a_batch_the_first_is_kept() -> None:
    found = check_rows([row(), row(cpu_utilization=0.9)], NOW, KEPT)
    assert found.table["cpu_utilization"].to_pylist() == [0.5]
    assert [value.row for value in found.quarantined] == [1]


def test_rows_of_servers_that_are_not_let_in_join_the_quarantine_in_their_place() -> None:
    rows = [row(server="new"), row(server="old", timestamp="?"), row(server="old"), row(server="new", timestamp="?")]
    found = check_rows(rows, NOW, KEPT).without({"new"}, "is one too many")
    assert [(value.row, value.column) for value in found] == [(0, "server"), (1, "timestamp"), (3, "timestamp")]
    assert (found[0].value, found[0].rule) == ("new", "is one too many")


VALUES = st.one_of(st.none(), st.floats(), st.text(max_size=5))
ROWS = st.fixed_dictionaries(
    {
        "server": st.one_of(st.none(), st.sampled_from(["a", "b", ""]), st.floats()),
        "timestamp": st.one_of(VALUES, st.sampled_from([CELL, "2026-01-12T09:50:00Z"])),
    },
    optional={"cpu_utilization": VALUES, "memory_used": VALUES, "profile": VALUES, "nonsense": VALUES},
)


@given(st.lists(st.one_of(ROWS, VALUES), max_size=8))
def test_every_row_is_either_stored_or_refused(rows: list[Any]) -> None:
    found = check_rows(rows, NOW, KEPT)
    refused_rows = {value.row for value in found.quarantined}
    assert found.table.num_rows + len(refused_rows) == len(rows)
    assert sorted([*found.rows.tolist(), *refused_rows]) == list(range(len(rows)))
