"""Schema migrations, run under a lock so that several processes may start at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from fleetcast.errors import StoreError

ADVISORY_LOCK = 0x666C656574  # "fleet": any number that nobody else locks in this database


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision in one transaction; it is whole or as before after a kill.

    Raises `StoreError` when the database has a revision that this version does not know.
    """
    config = Config()
    config.set_main_option("script_location", "fleetcast.store:migrations")
    with _file_lock(engine):
        if engine.dialect.name == "sqlite":
            _write_ahead(engine)
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": ADVISORY_LOCK})
            _upgrade(config, connection)


def _upgrade(config: Config, connection: Connection) -> None:
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        known = ScriptDirectory.from_config(config).get_current_head()
        raise StoreError(
            f"the database {connection.engine.url!r} cannot be migrated to revision {known} of this FleetCast "
            f"({error}); a newer version wrote it: upgrade FleetCast or use another database"
        ) from error


def _write_ahead(engine: Engine) -> None:
    """Switch a SQLite file to write-ahead logging, which it remembers; cannot be done in a transaction."""
    connection = engine.raw_connection()
    try:
        mode = connection.cursor().execute("PRAGMA journal_mode=WAL").fetchone()[0]
    finally:
        connection.close()
    if mode != "wal":
        raise StoreError(
            f"SQLite cannot use write-ahead logging at {engine.url.database} (got {mode}): use a local disk"
        )


@contextmanager
def _file_lock(engine: Engine) -> Iterator[None]:
    """Hold `<database>.lock` while migrating a SQLite file; the kernel lets go of it when the process ends."""
    if engine.dialect.name != "sqlite":
        yield
        return
    try:
        descriptor = os.open(f"{engine.url.database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"cannot write beside the database {engine.url.database}: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
