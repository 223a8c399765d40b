"""The import: files to a dataset, file by file, all or nothing. The one file here that knows datasets."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fleetcast.contract.rows import states_of_rows
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.servers import server_ids
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import state_names
from fleetcast.dataset.manifest import MANIFEST, Part
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import part_name, write_manifest, write_part
from fleetcast.errors import ContractError, DatasetError
from fleetcast.sources.convert import convert
from fleetcast.sources.csv import CsvReader
from fleetcast.sources.files import Plan, plan_files
from fleetcast.sources.grid import roll_up
from fleetcast.sources.mapping import Mapping
from fleetcast.sources.mapping_file import load_mapping
from fleetcast.sources.parquet import ParquetReader
from fleetcast.sources.reader import Reader
from fleetcast.sources.report import ImportReport, Tally
from fleetcast.sources.spill import Spill

QUARANTINE_FILE = "quarantine.parquet"
PART_SERVERS = 25
_SIDE_FILES = ("incidents.parquet", "topology.parquet", "maintenance.parquet", "remediations.parquet")


def import_csv(
    path: str | os.PathLike[str],
    mapping_file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    show_progress: bool = True,
) -> ImportReport:
    """Import `.csv` and `.csv.gz` files; see `import_dataset`."""
    return import_dataset(CsvReader(), path, mapping_file, out, overwrite=overwrite, show_progress=show_progress)


def import_parquet(
    path: str | os.PathLike[str],
    mapping_file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    show_progress: bool = True,
) -> ImportReport:
    """Import `.parquet` files; see `import_dataset`."""
    return import_dataset(ParquetReader(), path, mapping_file, out, overwrite=overwrite, show_progress=show_progress)


def import_dataset(
    reader: Reader,
    path: str | os.PathLike[str],
    mapping_file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    show_progress: bool = True,
) -> ImportReport:
    """Import a file, or all files of the reader's format below a folder, as a dataset.

    The first pass reads the files one by one, quarantines bad rows and keeps the samples on disk (in `TMPDIR`); the
    second rolls them up server by server and writes the parts. The dataset appears with its manifest, at the end;
    with `overwrite` an older one is there until then.

    Raises:
        MappingError: the mapping is wrong or does not describe the files.
        DatasetError: `out` holds a dataset, a file is damaged, or there is no good row.
        CollisionError: two server names share an id.
    """
    started = time.monotonic()
    mapping = load_mapping(mapping_file)
    storage = Storage(out)
    check_free(storage, overwrite)
    plan = plan_files(Path(path), mapping, reader)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fleetcast-import-") as folder, progress_bar(show_progress) as progress:
        spill = Spill(Path(folder), mapping.metrics)
        _read(plan, mapping, reader, spill, tally, progress)
        if not spill.servers:
            found = ", ".join(f"{rule} ({count})" for rule, count in tally.rules.most_common(3)) or "no row has a value"
            raise DatasetError(
                f"nothing to import from {path}: of {tally.rows_read} rows none is good; broken: {found}"
            )
        report = write_dataset(
            storage,
            spill,
            tally,
            mapping.timezone,
            lambda: _source(reader, mapping, mapping_file, plan, tally),
            progress,
            started,
        )
    files = [file.name for file in plan.files]
    return replace(report, files=files, skipped=plan.skipped)


def check_free(storage: Storage, overwrite: bool) -> None:
    """Raise `DatasetError` when the folder holds a dataset that is not to be replaced."""
    if storage.exists(MANIFEST) and not overwrite:
        raise DatasetError(f"{storage.location} already holds a dataset: give another folder, or overwrite it")


def write_dataset(
    storage: Storage,
    spill: Spill,
    tally: Tally,
    timezone: str,
    source: Callable[[], dict[str, Any]],
    progress: Progress,
    started: float,
) -> ImportReport:
    """Roll up what was spilled and write parts, quarantine and, at the end, the manifest.

    `source` is asked once the duplicates are counted. Raises `CollisionError` when two server names share an id.
    """
    server_ids(spill.servers)
    storage.create()
    old = [name for name in storage.names() if name.startswith("part-") and name.endswith(".parquet")]
    parts, soft = _write_parts(storage, timezone, spill, tally, _first_free(old), progress)
    quarantine = pa.concat_tables(tally.quarantine)
    storage.write_table(QUARANTINE_FILE, quarantine)
    manifest = write_manifest(storage, parts, spill.metrics, timezone, source(), tally.quarantined_rows, dict(soft))
    for name in (*old, *_SIDE_FILES):
        storage.delete(name)
    return ImportReport(storage.location, manifest, [], {}, tally, quarantine, time.monotonic() - started)


def _read(plan: Plan, mapping: Mapping, reader: Reader, spill: Spill, tally: Tally, progress: Progress) -> None:
    task = progress.add_task("reading files", total=len(plan.files), rows="")
    for file in plan.files:
        entry = mapping.files[file.entry]
        for block in reader.blocks(file.path, entry):
            converted = convert(block, entry, file.name)
            spill.add(converted.samples, file.entry)
            tally.add(converted)
            progress.update(task, rows=f"{tally.rows_read:,} rows, {tally.quarantined_rows:,} quarantined")
        progress.advance(task)


def _write_parts(
    storage: Storage, timezone: str, spill: Spill, tally: Tally, first: int, progress: Progress
) -> tuple[list[Part], Counter[str]]:
    """Whole servers, 25 a part, numbered from `first` on."""
    parts, soft = [], Counter[str]()
    servers = spill.servers
    task = progress.add_task("writing parts", total=-(-len(servers) // PART_SERVERS), rows="")
    for number, begin in enumerate(range(0, len(servers), PART_SERVERS), start=first):
        grid, duplicates = roll_up(spill.read(servers[begin : begin + PART_SERVERS]), spill.metrics)
        tally.found_duplicates(duplicates)
        checked = validate(grid, part_name(number))
        if checked.quarantined_rows:
            raise ContractError(f"rolled-up rows break the contract: {checked.quarantine.slice(0, 3).to_pylist()}")
        soft.update(checked.soft)
        codes = states_of_rows(grid, MAINTENANCE.empty_table(), timezone)
        table = grid.append_column("state", pa.array(state_names(codes)))
        parts.append(write_part(storage, number, table, spill.metrics))
        progress.update(task, advance=1, rows=f"{sum(part.rows for part in parts):,} rows")
    return parts, soft


def _source(
    reader: Reader, mapping: Mapping, mapping_file: str | os.PathLike[str], plan: Plan, tally: Tally
) -> dict[str, Any]:
    return {
        "kind": f"import {reader.kind}",
        "description": mapping.description,
        "mapping": os.path.basename(mapping_file),
        "mapping_sha256": hashlib.sha256(Path(mapping_file).read_bytes()).hexdigest(),
        "files": [file.name for file in plan.files],
        "skipped": plan.skipped,
        **tally.counts(),
    }


def _first_free(parts: list[str]) -> int:
    """The number after those in use, so that an older dataset's parts stay until the new manifest is there."""
    numbers = [
        int(digits) for name in parts if (digits := name.removeprefix("part-").removesuffix(".parquet")).isdigit()
    ]
    return max(numbers, default=-1) + 1


@contextmanager
def progress_bar(show: bool) -> Iterator[Progress]:
    """A bar on standard error, whose tasks have the field `rows`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rows]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), disable=not show) as progress:
        yield progress
