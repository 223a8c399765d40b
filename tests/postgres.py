"""A private PostgreSQL for a test: in a temporary folder, on a Unix socket, ended by its process id."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetcast.store.engine import Store, open_store

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"))


@dataclass
class Postgres:
    """A started server: its SQLAlchemy URL, and how it is controlled."""

    url: str
    control: list[Any]
    options: list[Any]
    common: dict[str, Any]

    def start(self) -> None:
        """Start, and return when it takes connections."""
        subprocess.run([*self.control, *self.options, "start"], check=True, **self.common)

    def stop(self) -> None:
        """End as by a crash: connections are cut, nothing is flushed."""
        subprocess.run([*self.control, "-m", "immediate", "stop"], check=True, **self.common)


@contextmanager
def server() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database."""
    with running() as postgres:
        yield postgres.url


@contextmanager
def running() -> Iterator[Postgres]:
    """A server with an empty database; PostgreSQL does not run as root, so root lends it its own user."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="fc-pg-", dir="/tmp"))  # a socket's path must be short
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    common: dict[str, Any] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run([BIN / "initdb", "-D", data, "-U", "fleetcast", "-A", "trust", "-N"], check=True, **common)
        settings = f"-c fsync=off -c listen_addresses='' -c unix_socket_directories={folder}"
        postgres = Postgres(
            f"postgresql+psycopg://fleetcast@/postgres?host={folder}",
            [BIN / "pg_ctl", "-D", data, "-w"],
            ["-o", settings, "-l", folder / "log"],
            common,
        )
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def store_on(kind: str, folder: Path) -> Iterator[Store]:
    """An empty store, on "sqlite" in this folder or on a "postgresql" of its own."""
    if kind == "sqlite":
        yield open_store(f"sqlite:///{folder}/fleetcast.db")
        return
    with server() as url:
        store = open_store(url)
        yield store
        store.close()
