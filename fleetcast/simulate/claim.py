"""The folder that a fleet is simulated into: one writer at a time, nothing overwritten, nothing left of a failure."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetcast.dataset.manifest import MANIFEST
from fleetcast.dataset.storage import Storage
from fleetcast.errors import DatasetError
from fleetcast.simulate.dirt import FOLDER, arrivals_of
from fleetcast.simulate.spec import FleetSpec

RECORD = "simulation.json"  # what is being simulated into the folder; written first, kept
SIDE_TABLES = ("incidents.parquet", "maintenance.parquet", "topology.parquet")
OVERVIEW = "overview.png"


def record_of(spec: FleetSpec, shard_servers: int) -> bytes:
    """What is simulated, as the folder's record tells it."""
    return (json.dumps({"source": spec.source(), "shard_servers": shard_servers}, indent=1) + "\n").encode()


@contextmanager
def claimed(storage: Storage, record: bytes, overwrite: bool) -> Iterator[Storage]:
    """Make the folder this simulation's own while the context is open.

    What an earlier run of the same record finished stays. When the context ends with an error, all that was not there
    before is deleted again; a process that is stopped or killed leaves what it had made to the next one.

    Raises:
        DatasetError: the folder holds another dataset, another simulation writes to it, or it cannot be written.
    """
    missing = _missing_folders(storage)
    try:
        storage.create()
        with _alone(storage):
            _refuse_another(storage, record, overwrite)
            before = _ours(storage)
            try:
                sweep(storage)
                storage.write_bytes(RECORD, record)
                yield storage
            except Exception:
                _delete(storage, _ours(storage) - before)
                if RECORD in before:  # it was deleted to call the other parts off
                    storage.write_bytes(RECORD, record)
                raise
    except Exception:
        for folder in missing:
            with contextlib.suppress(OSError):  # not made, or not empty: somebody else's
                folder.rmdir()
        raise


def sweep(storage: Storage) -> None:
    """Delete the half-written files that a killed process left."""
    for place in (storage, arrivals_of(storage)):
        for name in place.names():
            if name.startswith(".") and name.endswith(".partial"):
                place.delete(name)


@contextmanager
def _alone(storage: Storage) -> Iterator[None]:
    """Keep a second simulation out of a local folder; the kernel lets go of the lock when the process ends.

    Object stores have no locks, nor have some network filesystems: there it is the user who keeps two apart.
    """
    if not storage.is_local:
        yield
        return
    try:
        descriptor = os.open(storage.root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DatasetError(f"cannot open the folder {storage.location}: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"another simulation is writing to {storage.location}: wait until it is done") from error
        except OSError:  # a network filesystem without locks
            pass
        yield
    finally:
        os.close(descriptor)


def _refuse_another(storage: Storage, record: bytes, overwrite: bool) -> None:
    """Raise `DatasetError` when another dataset is in the folder, or delete it when that was asked for."""
    ours = _ours(storage)
    if not ours or (RECORD in ours and storage.read_bytes(RECORD) == record):
        return
    if not overwrite:
        raise DatasetError(
            f"{storage.location} holds another dataset ({len(ours)} files, for example {min(ours)}): "
            "choose another folder, or ask to overwrite it"
        )
    _delete(storage, ours)


def _ours(storage: Storage) -> set[str]:
    """Names of the files of a dataset that are in the folder; those of the arrivals with their folder."""
    arrivals = {f"{FOLDER}/{name}" for name in arrivals_of(storage).names() if _is_part(name)}
    return {
        name for name in storage.names() if _is_part(name) or name in (MANIFEST, RECORD, OVERVIEW, *SIDE_TABLES)
    } | arrivals


def _delete(storage: Storage, names: set[str]) -> None:
    for name in sorted(names, key=lambda name: name != MANIFEST):  # unseen first, then deleted
        storage.delete(name)
    sweep(storage)
    if storage.is_local:
        with contextlib.suppress(OSError):  # there is none, or it holds something of somebody else's
            os.rmdir(storage.path(FOLDER))


def _is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


def _missing_folders(storage: Storage) -> list[Path]:
    """The folders that would have to be made for a local storage, innermost first."""
    if not storage.is_local:
        return []
    folder, missing = Path(storage.root), []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing
