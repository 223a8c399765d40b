"""Samples in SQLite and in PostgreSQL: each server and time once, the last that was said, whatever is compacted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from fleetcast.errors import StorageFullError
from fleetcast.store.engine import Store, open_store
from fleetcast.store.marks import read_mark, set_mark
from fleetcast.store.quarantine import Refused, add_refused, count_refused, list_refused
from fleetcast.store.raw import append_raw, checkpoint_raw, load_raw
from fleetcast.store.samples import (
    BUCKET_SECONDS,
    append_samples,
    buckets_to_compact,
    delete_samples_before,
    merge_bucket,
    newest_timestamp,
    read_samples,
    replace_chunks,
)
from fleetcast.store.tables import SampleChunkTable
from serve_app.upkeep import compact
from tests.postgres import store_on

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
Key = tuple[str, int]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with store_on(request.param, tmp_path_factory.mktemp("store")) as store:
        yield store


@pytest.fixture
def store(shared: Store) -> Store:
    clear(shared)
    return shared


def clear(store: Store) -> None:
    with store.session() as session:
        session.execute(delete(SampleChunkTable))


def table(rows: dict[Key, float], metric: str = "cpu_utilization") -> pa.Table:
    return pa.table(
        {
            "server": [name for name, _ in rows],
            "profile": ["generic"] * len(rows),
            "timestamp": pa.array([second for _, second in rows], pa.int64()).cast(pa.timestamp("s", tz="UTC")),
            metric: pa.array(list(rows.values()), pa.float32()),
        }
    )


def add(store: Store, rows: dict[Key, float], metric: str = "cpu_utilization") -> None:
    with store.session() as session:
        append_samples(session, table(rows, metric))


def found(store: Store, since: int = 0, until: int | None = None, metric: str = "cpu_utilization") -> dict[Key, float]:
    with store.reading() as session:
        tables = list(read_samples(session, since, until))
    rows = [row for one in tables for row in one.to_pylist()]
    keys = [(row["server"], int(row["timestamp"].timestamp())) for row in rows]
    assert len(keys) == len(set(keys))
    return {key: row[metric] for key, row in zip(keys, rows, strict=True)}


def chunks(store: Store) -> int:
    with store.reading() as session:
        return session.scalar(select(func.count()).select_from(SampleChunkTable)) or 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(
            st.tuples(st.sampled_from("abc"), st.integers(0, 80).map(lambda step: 300 * step)),
            st.floats(0, 1, width=32),
            max_size=8,
        ),
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_the_last_value_of_every_server_and_time_is_there_once(
    shared: Store, posts: list[dict[Key, float]], compacted_after: int
) -> None:
    clear(shared)
    expected: dict[Key, float] = {}
    for number, post in enumerate(posts):
        add(shared, post)
        expected |= post
        if number == compacted_after:
            merge_all(shared)
    assert found(shared) == expected
    with shared.reading() as session:
        assert newest_timestamp(session) == max((second for _, second in expected), default=None)


def merge_all(store: Store) -> None:
    with store.session() as session:
        for bucket in session.scalars(select(SampleChunkTable.bucket).distinct()).all():
            merged = merge_bucket(session, bucket)
            if merged is not None:
                assert replace_chunks(session, *merged)


def test_a_replaced_sample_is_replaced_whole(store: Store) -> None:
    add(store, {("a", 300): 0.5})
    add(store, {("a", 300): 0.25}, "memory_used")
    with store.reading() as session:
        (only,) = read_samples(session, 0)
    assert only["cpu_utilization"].to_pylist() == [None]
    assert only["memory_used"].to_pylist() == [0.25]


def test_a_span_of_time_is_read_and_no_more(store: Store) -> None:
    add(store, {("a", 300 * step): step / 256 for step in range(100)})
    assert sorted(second for _, second in found(store, 3000, 15_000)) == list(range(3000, 15_001, 300))


def test_many_chunks_are_merged_and_what_was_added_meanwhile_stays_the_later(store: Store) -> None:
    for number in range(70):
        add(store, {("a", 300): number / 128, (f"s{number}", 600): 1.0})
    with store.session() as session:
        assert buckets_to_compact(session) == [0]
        merged = merge_bucket(session, 0)
    assert merged is not None
    add(store, {("a", 300): 0.75})  # between the reading and the exchange
    with store.session() as session:
        assert replace_chunks(session, *merged)
    assert chunks(store) == 2
    assert found(store)["a", 300] == 0.75
    assert len(found(store)) == 71
    with store.session() as session:
        assert not replace_chunks(session, *merged), "the chunks have gone: nothing to exchange"
    assert compact(store) == 0


def test_an_old_span_with_few_chunks_is_merged_once_it_is_not_the_newest(store: Store) -> None:
    for number in range(9):
        add(store, {(f"s{number}", 300): 0.5})
    assert compact(store) == 0
    add(store, {("a", BUCKET_SECONDS): 0.5})
    assert compact(store) == 1
    assert chunks(store) == 2


def test_old_spans_are_deleted_and_no_others(store: Store) -> None:
    add(store, {("a", 300 * step): 0.5 for step in range(100)})
    with store.session() as session:
        assert delete_samples_before(session, 2 * BUCKET_SECONDS + 600) == 2 * BUCKET_SECONDS // 300
    assert min(second for _, second in found(store)) == 2 * BUCKET_SECONDS


def test_a_refused_value_of_any_characters_is_kept_as_text(store: Store) -> None:
    with store.session() as session:
        add_refused(session, NOW, "key", [Refused(0, "a\0b", None, "server", "x\ny", "is printable")], 10)
    with store.reading() as session:
        (found,) = list_refused(session)
    assert (found.refused.server, found.refused.value) == ("a\\x00b", "x\\ny")


def test_an_error_in_a_transaction_leaves_nothing_behind(store: Store) -> None:
    def fails() -> None:
        with store.session() as session:
            append_samples(session, table({("a", 300): 0.5}))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fails()
    assert found(store) == {}


def test_raw_tables_come_back_in_order_and_a_checkpoint_takes_their_place(store: Store) -> None:
    def read() -> list[int]:
        with store.reading() as session:
            return [value for one in load_raw(session) for value in one["x"].to_pylist()]

    with store.session() as session:
        checkpoint_raw(session, pa.table({"x": pa.array([], pa.int64())}))
        for number in range(3):
            append_raw(session, pa.table({"x": [number]}))
    assert read() == [0, 1, 2]
    with store.session() as session:
        checkpoint_raw(session, pa.table({"x": [2]}))
        append_raw(session, pa.table({"x": [3]}))
    assert read() == [2, 3]


def test_a_mark_is_as_it_was_set_last(store: Store) -> None:
    for at in (300, 600):
        with store.session() as session:
            set_mark(session, "prometheus", at)
    with store.reading() as session:
        assert read_mark(session, "prometheus") == 600
        assert read_mark(session, "elsewhere") is None


def test_the_quarantine_lists_the_newest_first_and_keeps_so_many(store: Store) -> None:
    with store.session() as session:
        for number in range(6):
            entry = Refused(number, "ab"[number % 2], "x", "cpu_utilization", "7", "lies in the hard range")
            add_refused(session, NOW, "ann", [entry, entry], most=8)
        add_refused(session, NOW, "ann", [], most=8)
    with store.reading() as session:
        assert count_refused(session) == 8
        first = list_refused(session, limit=3)
        rest = list_refused(session, before=first[-1].number)
        assert [entry.refused.row for entry in [*first, *rest]] == [5, 5, 4, 4, 3, 3, 2, 2]
        assert {entry.refused.row for entry in list_refused(session, server="a")} == {2, 4}
        assert (first[0].at, first[0].sender) == (NOW, "ann")


def test_a_full_disk_is_said_and_what_was_committed_stays(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/small.db")
    add(store, {("a", 300): 0.5})
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    store.close()
    small = open_store(f"sqlite:///{tmp_path}/small.db")
    with small.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    noise = np.random.default_rng(0).random(30_000)
    rows = {("b", 300 * step): float(value) for step, value in enumerate(noise)}
    with pytest.raises(StorageFullError, match="make room") as full:
        add(small, rows)
    assert "INSERT" not in str(full.value)
    assert found(small) == {("a", 300): 0.5}


def test_samples_of_an_older_database_are_moved_whole(tmp_path: Path) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{tmp_path}/old.db")
    config = Config()
    config.set_main_option("script_location", "fleetcast.store:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
    with sqlite3.connect(tmp_path / "old.db") as connection:
        rows = [("a", 300 * step, "generic", f'{{"cpu_utilization": {step / 128}}}') for step in range(60)]
        connection.executemany("INSERT INTO samples (server, timestamp, profile, metrics) VALUES (?, ?, ?, ?)", rows)
    assert found(open_store(f"sqlite:///{tmp_path}/old.db")) == {("a", 300 * k): k / 128 for k in range(60)}
