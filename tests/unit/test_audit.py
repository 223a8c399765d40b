"""The audit trail tells when it was touched: entries changed, deleted, moved, put in or cut off."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from fleetcast.errors import AuditError, StoreError, UsageError
from fleetcast.store.audit import entry_hash, list_audit, parse_anchor, record, verify
from fleetcast.store.engine import Store, open_store
from tests import postgres

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
FOUR = ["a", "b", "c", "d"]
UNLOCK = {
    "sqlite": ["DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"],
    "postgresql": ["DROP TRIGGER audit_append_only ON audit"],
}
EMPTY = {
    "sqlite": ["DELETE FROM audit"],
    "postgresql": ["TRUNCATE audit"],
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One database a backend for all tests of the module, without the triggers: each test fills it anew."""
    if request.param == "sqlite":
        yield _unlocked(open_store(f"sqlite:///{tmp_path_factory.mktemp('audit')}/audit.db"))
        return
    with postgres.server() as url:
        yield _unlocked(open_store(url))


def _unlocked(store: Store) -> Store:
    run(store, *UNLOCK[store.engine.dialect.name])
    return store


@pytest.fixture
def trail(database: Store) -> Store:
    """A trail of four entries."""
    run(
        database,
        *EMPTY[database.engine.dialect.name],
        f"UPDATE audit_head SET last = 0, hash = '{'0' * 64}', entries = 0",
    )
    with database.session() as session:
        for number, subject in enumerate(FOUR):
            record(session, NOW + timedelta(seconds=number), "ann", "did", subject, "why")
    return database


def run(store: Store, *statements: str) -> None:
    with store.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_a_trail_that_nobody_touched_is_sound(trail: Store) -> None:
    with trail.reading() as session:
        head = verify(session)
        assert (head.entries, head.last) == (4, 4)
        assert verify(session, (head.last, head.hash)) == head
        assert [entry.subject for entry in list_audit(session)] == FOUR[::-1]
        assert [entry.subject for entry in list_audit(session, 1, before=3)] == ["b"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("actor", "'bob'"), ("action", "'undid'"), ("subject", "'x'"), ("detail", "''"), ("at", "'2020-01-01 00:00:00'")],
)
def test_a_changed_entry_is_found(trail: Store, column: str, value: str) -> None:
    run(trail, f"UPDATE audit SET {column} = {value} WHERE id = 2")
    with pytest.raises(AuditError, match="entry 2 of the audit trail was changed"), trail.reading() as session:
        verify(session)


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        (["DELETE FROM audit WHERE id = 1"], "before the entry 2"),
        (["DELETE FROM audit WHERE id = 3"], "between the entries 2 and 4"),
        (["DELETE FROM audit WHERE id = 4"], "at the end were deleted"),
        (["DELETE FROM audit"], "at the end were deleted"),
        (["UPDATE audit SET id = 9 WHERE id = 2", "UPDATE audit SET id = 2 WHERE id = 3"], "entry 2 .* was changed"),
        (["DELETE FROM audit_head"], "lost its head"),
    ],
)
def test_what_is_deleted_or_moved_is_found(trail: Store, tampering: list[str], found: str) -> None:
    with trail.engine.connect() as connection:
        transaction = connection.begin()
        head = connection.execute(text("SELECT id, last, hash, entries FROM audit_head")).one()
        transaction.rollback()
    run(trail, *tampering)
    try:
        with pytest.raises(AuditError, match=found), trail.reading() as session:
            verify(session)
    finally:
        run(trail, "DELETE FROM audit_head")
        with trail.engine.begin() as connection:
            connection.execute(
                text("INSERT INTO audit_head (id, last, hash, entries) VALUES (:id, :last, :hash, :entries)"),
                dict(head._mapping),
            )


def test_entries_that_swap_places_with_their_hashes_are_found(trail: Store) -> None:
    """Whoever works out new hashes for the two still breaks the chain to the next entry."""
    with trail.session() as session:
        first = list_audit(session)[-1]
        moved = entry_hash(first.hash, 2, NOW, "ann", "did", "c", "why")
        session.execute(
            text("UPDATE audit SET subject = 'c', at = (SELECT at FROM audit WHERE id = 1), hash = :hash WHERE id = 2"),
            {"hash": moved},
        )
    with pytest.raises(AuditError, match="between the entries 2 and 3"), trail.reading() as session:
        verify(session)


def test_a_trail_that_was_written_anew_is_found_by_a_noted_head(trail: Store) -> None:
    with trail.reading() as session:
        head = verify(session)
    dialect = trail.engine.dialect.name
    run(trail, *EMPTY[dialect], f"UPDATE audit_head SET last = 0, hash = '{'0' * 64}', entries = 0")
    with trail.session() as session:
        for subject in FOUR:
            record(session, NOW, "mallory", "did", subject, "why")
    with trail.reading() as session:
        verify(session)
        with pytest.raises(AuditError, match="written anew"):
            verify(session, (head.last, head.hash))
        with pytest.raises(AuditError, match="is gone"):
            verify(session, (head.last + 1, head.hash))


def test_two_who_write_at_once_make_one_chain(trail: Store) -> None:
    together = threading.Barrier(2)

    def write(actor: str) -> None:
        for number in range(20):
            if not number:
                together.wait()
            with trail.session() as session:
                record(session, NOW, actor, "write", str(number))

    writers = [threading.Thread(target=write, args=(name,)) for name in ("ann", "bob")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    with trail.reading() as session:
        assert verify(session).entries == 44
        written = [(entry.actor, entry.subject) for entry in list_audit(session, 40)]
    assert {actor for actor, _ in written} == {"ann", "bob"}
    assert len(set(written)) == 40


def test_what_was_rolled_back_leaves_no_entry(trail: Store) -> None:
    def fails() -> None:
        with trail.session() as session:
            record(session, NOW, "ann", "did", "x")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fails()
    with trail.reading() as session:
        assert verify(session).entries == 4


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'bob'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_entries(tmp_path: Path, statement: str) -> None:
    store = open_store(f"sqlite:///{tmp_path}/audit.db")
    with store.session() as session:
        record(session, NOW, "ann", "did", "something")
    with pytest.raises(StoreError, match="append-only"), store.session() as session:
        session.execute(text(statement))


@pytest.mark.parametrize("anchor", ["", "7", "x:" + "0" * 64, "7:abc", "7:" + "G" * 64])
def test_an_anchor_that_is_none_is_refused(anchor: str) -> None:
    with pytest.raises(UsageError, match="ID:HASH"):
        parse_anchor(anchor)


@settings(max_examples=30)
@given(st.tuples(*[st.text(max_size=4)] * 4), st.tuples(*[st.text(max_size=4)] * 4))
def test_no_two_entries_have_one_hash(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Texts are kept apart: what moves from one field to the next changes the hash."""
    same = entry_hash("0", 1, NOW, *one) == entry_hash("0", 1, NOW, *other)
    assert same == (one == other)
