"""Locks of runs, services and folders, and who holds them.

A lock is a file that its holder keeps under `flock(2)`. The kernel drops it when the holder ends, however it ends, so
a lock left by a killed process is free again; the file's JSON content (`pid`, `started`, `command`) only says who
holds it. Python opens files close-on-exec: programs that the holder starts do not inherit the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleetcast.errors import RunLockedError

_ATTEMPTS = 20
_PAUSE_S = 0.025


@dataclass(frozen=True)
class Holder:
    """The living process that holds a lock: its id, when it took the lock (UTC) and its command line."""

    pid: int
    started: datetime
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command}), started {self.started.isoformat(timespec='seconds')}"


@contextmanager
def hold(path: str | os.PathLike[str]) -> Iterator[Holder]:
    """Hold the lock at `path` while the context is open; the file and missing parent folders are made.

    Raises `RunLockedError`, naming pid and start time, when a living process holds it (this one included).
    """
    lock = Path(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(lock)
    me = Holder(os.getpid(), datetime.now(UTC), " ".join(sys.argv) or "python")
    try:
        os.ftruncate(descriptor, 0)
        content = {"pid": me.pid, "started": me.started.isoformat(), "command": me.command}
        os.pwrite(descriptor, json.dumps(content).encode(), 0)
        yield me
    finally:
        if _is_file_at(descriptor, lock):
            lock.unlink()
        os.close(descriptor)


def holder(path: str | os.PathLike[str]) -> Holder | None:
    """The living process that holds the lock at `path`; None when it is free, was never taken or its holder died.

    Raises `RunLockedError` when a process that is not FleetCast's locks the file, since nothing says which.
    """
    lock = Path(path)
    for _ in range(_ATTEMPTS):
        try:
            descriptor = os.open(lock, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            found = _read(descriptor)
        finally:
            os.close(descriptor)
        if found is not None:
            return found
        time.sleep(_PAUSE_S)  # taken this moment, its content not yet written
    raise RunLockedError(f"{lock} is locked by a process that left no name in it; end that process and try again")


def _acquire(lock: Path) -> int:
    """An open descriptor that has the exclusive lock on the file now at `lock`.

    Tries for half a second, because `holder()` in another process takes a shared lock for a moment.
    """
    for _ in range(_ATTEMPTS):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            time.sleep(_PAUSE_S)
            continue
        if _is_file_at(descriptor, lock):
            return descriptor
        os.close(descriptor)  # the last holder removed the file between our open and our lock
    found = holder(lock)
    who = str(found) if found else "another process that has just let go of it; try again"
    raise RunLockedError(f"{lock.parent} is in use by {who}: wait for it or stop it (lock file {lock})")


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> Holder | None:
    """The holder that the lock file names; None when its content is not whole."""
    try:
        content = json.loads(os.pread(descriptor, 65536, 0))
        return Holder(int(content["pid"]), datetime.fromisoformat(content["started"]), str(content["command"]))
    except (ValueError, KeyError, TypeError):
        return None
