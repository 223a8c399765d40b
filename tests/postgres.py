"""A private PostgreSQL for a test: in a temporary folder, on a Unix socket, ended by its process id."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/bin"))


@contextmanager
def server() -> Iterator[str]:
    """The SQLAlchemy URL of an empty database; PostgreSQL does not run as root, so root lends it its own user."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="fc-pg-", dir="/tmp"))  # a socket's path must be short
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    common = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.run([BIN / "initdb", "-D", data, "-U", "fleetcast", "-A", "trust", "-N"], check=True, **common)  # type: ignore[call-overload]
        control = [BIN / "pg_ctl", "-D", data, "-w"]
        options = f"-c fsync=off -c listen_addresses='' -c unix_socket_directories={folder}"
        subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], check=True, **common)  # type: ignore[call-overload]
        try:
            yield f"postgresql+psycopg://fleetcast@/postgres?host={folder}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, **common)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(folder)
