"""Opening the database: SQLite by default, PostgreSQL on a cluster, migrated to the newest schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from fleetcast.errors import StorageFullError, StoreError
from fleetcast.store import audit
from fleetcast.store.migrate import migrate

BUSY_TIMEOUT_MS = 30_000
_READ_ONLY = "fleetcast_read_only"
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE)
_POSTGRES_FULL = "53100"


class Store:
    """A migrated database. Safe to share between threads; every process opens its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction that may write: committed at the end, rolled back on any error.

        On SQLite it takes the write lock at once, so that what was read in it still holds when it writes.
        Raises `StorageFullError` when its disk is full, `StoreError` when it refuses otherwise.
        """
        with self._transaction(self.engine) as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads; on SQLite it waits for no writer."""
        with self._transaction(self._reader) as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
                audit.seal(session)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise _refusal(engine, error) from error


def open_store(url: str) -> Store:
    """Open the database at a SQLAlchemy URL and migrate it; several processes may do so at once.

    A SQLite file and its folder are made when they are not there. Raises `StoreError` when the URL is wrong, the
    database cannot be reached, or a newer FleetCast wrote it.
    """
    try:
        parsed = make_url(url)
        engine = _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _server_engine(parsed)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise StoreError(
            f"cannot use the database URL {_masked(url)}: {error}; expected for example sqlite:////path/fleetcast.db "
            "or postgresql+psycopg://user@host/name (with psycopg installed)"
        ) from error
    try:
        migrate(engine)
    except (SQLAlchemyError, sqlite3.Error) as error:
        engine.dispose()
        raise StoreError(f"cannot open the database {engine.url!r}: {error}") from error
    return Store(engine)


def _refusal(engine: Engine, error: Exception) -> StoreError:
    """What the database said, without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if getattr(cause, "sqlite_errorcode", None) in _SQLITE_FULL or getattr(cause, "sqlstate", None) == _POSTGRES_FULL:
        return StorageFullError(
            f"the disk of the database {engine.url!r} is full: make room; nothing of this request was stored"
        )
    return StoreError(f"the database {engine.url!r} refused: {cause}")


def _server_engine(url: URL) -> Engine:
    return create_engine(url, pool_pre_ping=True)


def _sqlite_engine(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise StoreError("an in-memory SQLite database cannot be shared by processes: name a file, sqlite:////path")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot make the folder of the database {url.database}: {error}") from error
    engine = create_engine(url)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not guessed by the driver
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _masked(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://...@{tail}" if at else url
