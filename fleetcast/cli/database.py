"""Commands that work on the service's database; the service itself need not run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fleetcast.errors import AuthenticationError

if TYPE_CHECKING:
    from fleetcast.settings import Settings
    from fleetcast.store.engine import Store
    from fleetcast.store.keys import Principal

HOME = typer.Option(None, help="Folder of the service's database; default FLEETCAST_HOME.")
DATABASE = typer.Option(None, help="SQLAlchemy URL of the database; default FLEETCAST_DATABASE_URL.")
KEY = "FLEETCAST_API_KEY"


@contextmanager
def opened(home: Path | None, database: str | None) -> Iterator[tuple[Store, Settings]]:
    """The database and the settings."""
    from fleetcast.operate.home import make_home, service_home
    from fleetcast.settings import Settings
    from fleetcast.store.engine import open_store

    settings = Settings()
    if database is None and settings.database_url is None:
        settings.home = service_home(make_home(home or settings.home))
    store = open_store(database or settings.database)
    try:
        yield store, settings
    finally:
        store.close()


def who(store: Store, scope: str) -> Principal:
    """Whoever gives the command, by the API key in FLEETCAST_API_KEY: what is decided is decided by somebody.

    Raises `AuthenticationError` without a key that is in force, `PermissionDeniedError` without the scope.
    """
    from fleetcast.store.keys import verify

    with store.reading() as session:
        found = verify(session, os.environ.get(KEY, ""))
    if found is None:
        raise AuthenticationError(f"this command needs your API key in {KEY} (`fleetcast keys create`)")
    found.require(scope)
    return found
