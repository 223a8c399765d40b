"""Starting fresh: what would be deleted, with sizes and counts, and deleting exactly that."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from pydantic import BaseModel, Field
from sqlalchemy.engine import make_url

from fleetcast.errors import RunLockedError
from fleetcast.operate import locks
from fleetcast.operate.home import MARKER, SERVICE_LOCK, files_below, living_locks, require_own
from fleetcast.settings import Settings

_SQLITE_MAGIC = b"SQLite format 3\0"
_SIDECARS = ("-wal", "-shm")


class ResetItem(BaseModel):
    """One entry of FleetCast's home."""

    name: str = Field(description="name in the home folder")
    kind: str = Field(description="folder, file, database or link")
    files: int = Field(description="files in it; a link counts as one")
    size: int = Field(description="bytes on disk of these files")
    rows: dict[str, int] | None = Field(None, description="rows of each table of a database")


class ResetPlan(BaseModel):
    """What a reset deletes."""

    home: Path
    items: list[ResetItem]
    stays: list[str] = Field(description="what belongs to FleetCast but lies outside of its home, and is kept")

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.items)

    @property
    def files(self) -> int:
        """Files in all."""
        return sum(item.files for item in self.items)

    @property
    def rows(self) -> int:
        """Database rows in all."""
        return sum(sum((item.rows or {}).values()) for item in self.items)


def plan_reset(settings: Settings) -> ResetPlan:
    """What a reset would delete; changes nothing and may be asked while the service runs.

    Raises `UsageError` when the home folder is not FleetCast's.
    """
    home = settings.home.resolve()
    require_own(home)
    entries = sorted(home.iterdir()) if home.exists() else []
    own = [entry for entry in entries if entry.name not in (MARKER, SERVICE_LOCK) and not _is_sidecar(entry)]
    items = [_item(entry) for entry in own]
    return ResetPlan(home=home, items=items, stays=_outside(settings, home))


def refuse_in_use(home: Path) -> None:
    """Raise `RunLockedError`, naming every holder, while a run or a service in `home` is up."""
    living = living_locks(home)
    if living:
        holders = "; ".join(f"{path.relative_to(home)} is held by {holder}" for path, holder in living)
        raise RunLockedError(f"{home} is in use: {holders}. Stop what runs (Ctrl-C in its terminal) and try again")


def execute(plan: ResetPlan) -> None:
    """Delete what the plan names, and nothing else; links are removed, what they point to is not touched.

    The service's lock is held meanwhile, so no service starts on half a home. When it is ended midway, the same
    command finishes the work. Raises `UsageError` or `RunLockedError` before anything is deleted.
    """
    require_own(plan.home)
    if not plan.home.exists():
        return
    refuse_in_use(plan.home)
    with locks.hold(plan.home / SERVICE_LOCK):
        for item in plan.items:
            path = plan.home / item.name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
                continue
            for file in (*_sidecars(path), path):
                file.unlink(missing_ok=True)


def _item(entry: Path) -> ResetItem:
    if entry.is_symlink():
        return ResetItem(name=entry.name, kind="link", files=1, size=entry.lstat().st_size)
    if entry.is_dir():
        sizes = [path.lstat().st_size for path in files_below(entry)]
        return ResetItem(name=entry.name, kind="folder", files=len(sizes), size=sum(sizes))
    if not entry.is_file():  # a socket or a pipe
        return ResetItem(name=entry.name, kind="file", files=1, size=0)
    sizes = [file.stat().st_size for file in (entry, *_sidecars(entry)) if file.exists()]
    rows = _rows(entry)
    kind = "file" if rows is None else "database"
    return ResetItem(name=entry.name, kind=kind, files=len(sizes), size=sum(sizes), rows=rows)


def _sidecars(path: Path) -> list[Path]:
    """SQLite's own files beside the database `path`; they belong to it and come and go."""
    return [path.with_name(path.name + ending) for ending in _SIDECARS]


def _is_sidecar(path: Path) -> bool:
    return any(path.name.endswith(end) and path.with_name(path.name.removesuffix(end)).exists() for end in _SIDECARS)


def _rows(path: Path) -> dict[str, int] | None:
    """Rows of each table of a SQLite file; None when it is no SQLite file or a damaged one."""
    with path.open("rb") as file:
        if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute("PRAGMA query_only=ON")
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
                "AND name <> 'alembic_version' ORDER BY name"
            ).fetchall()
            return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in tables}
    except sqlite3.DatabaseError:
        return None


def _outside(settings: Settings, home: Path) -> list[str]:
    url = make_url(settings.database)
    if url.get_backend_name() == "sqlite" and url.database:
        if Path(url.database).resolve().is_relative_to(home):
            return []
        return [f"the database {url.database}"]
    return [f"the database {url.render_as_string(hide_password=True)}"]
