"""The store keeps what was committed, whole, in UTC, in the schema of its tables."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, select

from fleetcast.errors import StoreError, UsageError
from fleetcast.store.audit import list_audit, record
from fleetcast.store.cycles import begin_cycle, observed
from fleetcast.store.engine import Store, open_store
from fleetcast.store.maintenance import MaintenanceWindow, load_maintenance, plan_maintenance
from fleetcast.store.tables import AlertTable, Base, NotificationTable
from fleetcast.store.tables_remediation import PlanTable

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/folder/fleetcast.db"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(f"sqlite:///{tmp_path_factory.mktemp('store')}/shared.db")


def test_migrations_make_exactly_the_tables_that_the_code_uses(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_sqlite_is_durable_and_readers_do_not_wait_for_a_writer(store: Store) -> None:
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
    with store.session() as writer:
        record(writer, NOW, "ann", "did", "something")
        writer.flush()
        with store.reading() as reader:
            assert list_audit(reader) == []


def test_reopening_keeps_what_was_committed(url: str) -> None:
    first = open_store(url)
    with first.session() as session:
        record(session, NOW, "ann", "did", "something")
    first.close()
    with open_store(url).reading() as session:
        assert [entry.subject for entry in list_audit(session)] == ["something"]


def test_an_error_in_a_transaction_leaves_nothing_behind(store: Store) -> None:
    def fails() -> None:
        with store.session() as session:
            record(session, NOW, "ann", "did", "something")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        fails()
    with store.reading() as session:
        assert list_audit(session) == []


def test_a_database_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    open_store(url).close()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"9999.*newer version"):
        open_store(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "no such thing", "nodb://user:secret@host/x"])
def test_an_unusable_url_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(StoreError) as refused:
        open_store(url)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(StoreError, match="cannot open"):
        open_store(f"sqlite:///{tmp_path}/x.db")


def test_times_come_back_as_the_same_instant_in_utc(store: Store) -> None:
    there = NOW.astimezone(timezone(timedelta(hours=-5)))
    with store.session() as session:
        record(session, there, "ann", "did", "something")
    with store.reading() as session:
        found = list_audit(session)[0].at
    assert found == NOW
    assert found.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no time zone"), store.session() as session:
        record(session, datetime(2026, 1, 5), "ann", "did", "something")


def test_a_cycle_counts_once_and_another_clock_is_refused(store: Store) -> None:
    with store.session() as session:
        assert observed(session, "alerting") is None
        assert begin_cycle(session, "alerting", NOW)
        assert not begin_cycle(session, "alerting", NOW)
        assert begin_cycle(session, "alerting", NOW + timedelta(minutes=5))
    with store.reading() as session:
        span = observed(session, "alerting")
    assert span is not None
    assert (span.first_at, span.last_at, span.count) == (NOW, NOW + timedelta(minutes=5), 2)
    with store.session() as session:
        assert begin_cycle(session, "alerting", NOW + timedelta(minutes=2)), "a clock that was set back goes on"
        assert not begin_cycle(session, "alerting", NOW + timedelta(minutes=2))
    with pytest.raises(StoreError, match="clock went back"), store.session() as session:
        begin_cycle(session, "alerting", NOW - timedelta(days=1))


def test_planned_maintenance_is_kept_with_its_author(store: Store) -> None:
    window = MaintenanceWindow("web1", NOW, NOW + timedelta(hours=1))
    longer = window._replace(end=NOW + timedelta(hours=2))
    with store.session() as session:
        plan_maintenance(session, window, "ann", NOW)
        plan_maintenance(session, longer, "bob", NOW)
        assert load_maintenance(session) == [longer]
        assert [entry.actor for entry in list_audit(session)] == ["bob", "ann"]
    with pytest.raises(UsageError, match="not after"), store.session() as session:
        plan_maintenance(session, window._replace(end=NOW), "ann", NOW)


def test_a_database_of_schema_0004_keeps_its_alerts_and_notifications(tmp_path: Path) -> None:
    check_migration(f"sqlite:///{tmp_path}/old.db")


def check_migration(url: str) -> None:
    """Make an empty database one of schema 0004 with an alert, and open it."""
    old = create_engine(url)
    config = Config()
    config.set_main_option("script_location", "fleetcast.store:migrations")
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004_forecast_cycles")
        if old.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TIME ZONE 'UTC'")
        nine = "2026-01-05 09"
        connection.exec_driver_sql(
            "INSERT INTO alerts (id, key, server, profile, metric, level, state, score, cycles_at_level, cycles_below,"
            " first_seen_at, opened_at, updated_at, dependent, message, sent_level, sent_at, escalated_steps) VALUES"
            " (7, 'web1/memory_used', 'web1', 'web_api', 'memory_used', 'P1', 'open', 90, 3, 0,"
            f" '{nine}:00', '{nine}:05', '{nine}:10', false, 'full soon', 'P1', '{nine}:05', 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO notifications (id, key, alert_id, at, channel, receiver, status, text) VALUES"
            f" (3, '7/P1/PagerDuty', 7, '{nine}:05', 'PagerDuty', 'on-call', 'would have sent', 'x')"
        )
        connection.exec_driver_sql(
            "INSERT INTO plans (id, hash, content, alert_id, status, created_at, expires_at) VALUES"
            f" (1, 'h', '{{\"profile\": \"web_api\"}}', 7, 'proposed', '{nine}:05', '{nine}:59')"
        )
    old.dispose()
    with open_store(url).session() as session:
        alert = session.get_one(AlertTable, 7)
        (sent,) = session.scalars(select(NotificationTable))
        assert (alert.state, alert.seen_at, alert.reopened, alert.labels) == ("open", alert.updated_at, 0, {})
        assert (sent.alert_id, sent.to, sent.action, sent.status) == (7, "on-call", "trigger", "would have sent")
        assert sent.at == NOW + timedelta(minutes=5)
        assert session.get_one(PlanTable, 1).alert_id == 7
