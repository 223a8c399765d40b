"""FleetCast's home: the one folder that it owns, told from all others by a marker file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fleetcast.errors import UsageError
from fleetcast.operate import locks

MARKER = ".fleetcast-home"
SERVICE_LOCK = "service.lock"
SERVICE_FILE = "service.json"  # written by a running service: {"address": "http://127.0.0.1:8000"}
_MARKER_TEXT = "This folder belongs to FleetCast. `fleetcast reset` deletes everything in it.\n"


def make_home(home: Path) -> Path:
    """Make the folder and its marker, where they are not there yet, and return the folder's real path.

    Raises `UsageError` for a folder that has files but no marker: it is somebody else's.
    """
    require_own(home)
    home.mkdir(parents=True, exist_ok=True)
    marker = home / MARKER
    if not marker.exists():
        marker.write_text(_MARKER_TEXT)
    return home.resolve()


def service_home(home: Path) -> Path:
    """The folder that a running service keeps its lock and database in: `home`, or a demo's below it."""
    places = [home, *sorted(home.glob("demo/*/service"))]
    living = (place for place in places if locks.holder(place / SERVICE_LOCK) is not None)
    return next(living, home)


def require_own(home: Path) -> None:
    """Raise `UsageError` unless `home` carries the marker, is empty or does not exist."""
    if not home.exists():
        return
    if not home.is_dir():
        raise UsageError(f"FleetCast's home {home} is not a folder: set FLEETCAST_HOME to a folder of its own")
    found = sorted(entry.name for entry in home.iterdir())
    if found and MARKER not in found:
        raise UsageError(
            f"{home} is not FleetCast's: it has no {MARKER} but {len(found)} other entries ({', '.join(found[:3])}"
            f"{', ...' if len(found) > 3 else ''}); set FLEETCAST_HOME to an empty folder or one that FleetCast made"
        )


def files_below(folder: Path) -> Iterator[Path]:
    """Every file and symbolic link below `folder`, without following any link."""
    for parent, folders, files in os.walk(folder, followlinks=False):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Path(parent) / name


def living_locks(folder: Path) -> list[tuple[Path, locks.Holder]]:
    """The locks below `folder` that a living process holds.

    Raises `RunLockedError` when a process that left no name holds one.
    """
    found = ((path, locks.holder(path)) for path in files_below(folder) if path.suffix == ".lock")
    return [(path, holder) for path, holder in found if holder is not None]
