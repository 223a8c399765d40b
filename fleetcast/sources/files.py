"""Which files of a folder are imported by which entry of the mapping; every file is accounted for before the start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fleetcast.errors import MappingError
from fleetcast.sources.convert import server_of_file
from fleetcast.sources.mapping import FileMapping, Mapping
from fleetcast.sources.reader import Reader


class PlannedFile(NamedTuple):
    """A file, its path below the imported folder, and the entry (position in `files`) that reads it."""

    path: Path
    name: str
    entry: int


class Plan(NamedTuple):
    """Files in the order in which they are read, and the skipped ones with the mapping's reason."""

    files: list[PlannedFile]
    skipped: dict[str, str]


def plan_files(path: Path, mapping: Mapping, reader: Reader) -> Plan:
    """Match the files of the format below `path` (or the one file `path`) with the mapping.

    Raises:
        MappingError: there is no file, a file matches no entry or several, or its columns are not those of the entry.
    """
    if not path.exists():
        raise MappingError(f"{path} does not exist; expected a {reader.kind} file or a folder of them")
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = [file for file in found if file.name.endswith(reader.suffixes)]
    plan = Plan([], {})
    for file in found:
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        entries = [number for number, entry in enumerate(mapping.files) if PurePosixPath(name).match(entry.match)]
        reasons = [skip.reason for skip in mapping.skip if PurePosixPath(name).match(skip.match)]
        if len(entries) + len(reasons) != 1:
            raise MappingError(_unclear(name, entries, reasons))
        if reasons:
            plan.skipped[name] = reasons[0]
        else:
            plan.files.append(PlannedFile(file, name, entries[0]))
    if not plan.files:
        raise MappingError(
            f"{path} has no file to import: expected {' or '.join(reader.suffixes)} that the mapping has"
        )
    for planned in plan.files:
        check_columns(reader.columns(planned.path, mapping.files[planned.entry]), mapping.files[planned.entry], planned)
    return plan


def check_columns(columns: Iterable[str], mapping: FileMapping, file: PlannedFile) -> None:
    """Raise `MappingError` unless each mapped column is there and each column is mapped or ignored."""
    names = list(columns)
    problems = {
        "has columns twice": sorted({name for name in names if names.count(name) > 1}),
        "lacks mapped columns": sorted(mapping.mapped_columns - set(names)),
        "has columns that are neither mapped nor listed under `ignore`": sorted(
            set(names) - mapping.mapped_columns - set(mapping.ignore)
        ),
    }
    wrong = [f"{what}: {', '.join(map(repr, found))}" for what, found in problems.items() if found]
    if wrong:
        raise MappingError(f"{file.name} {'; '.join(wrong)} (it has {', '.join(map(repr, names))})")
    server_of_file(mapping, file.name)


def _unclear(name: str, entries: list[int], reasons: list[str]) -> str:
    if not entries and not reasons:
        return f"{name} matches no entry of the mapping: add it to `files`, or to `skip` with a reason"
    places = [f"files.{number}" for number in entries] + ["skip"] * len(reasons)
    return f"{name} matches {len(places)} entries of the mapping ({', '.join(places)}): it must match one"
