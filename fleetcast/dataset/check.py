"""Whether a dataset keeps the contract and its own manifest: what `fleetcast validate` runs."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.contract.rows import states_of_rows
from fleetcast.contract.schema import QUARANTINE, TIMESTAMP, sample_schema
from fleetcast.contract.servers import server_ids
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import state_names
from fleetcast.dataset.manifest import Part
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.side_check import side_table_problems
from fleetcast.errors import ContractError, DatasetError

STATE_RULE = "is the state that the contract's function gives"


@dataclass
class CheckReport:
    """What a check found.

    `problems` are about the dataset as a whole or a part of it; `quarantine` has a line for each rule that a row
    breaks (file, row index in the part, column, value, rule). `rows` counts the rows that could be read, `soft` the
    values of good rows outside the soft range, `quarantined_at_import` what the manifest tells of: those rows are not
    in the dataset.
    """

    location: str
    contract_version: str
    servers: int
    parts: int
    quarantined_at_import: int
    rows: int = 0
    problems: list[str] = field(default_factory=list)
    quarantine: pa.Table = field(default_factory=QUARANTINE.empty_table)
    soft: Counter[str] = field(default_factory=Counter)

    @property
    def quarantined_rows(self) -> int:
        """Number of rows that break a rule."""
        return int(self.quarantine.group_by(["file", "row"]).aggregate([]).num_rows)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and not self.quarantine.num_rows

    def summary(self) -> dict[str, Any]:
        """The outcome as plain data, for `--json`."""
        return {
            "dataset": self.location,
            "ok": self.ok,
            "contract_version": self.contract_version,
            "servers": self.servers,
            "parts": self.parts,
            "rows": self.rows,
            "quarantined_rows": self.quarantined_rows,
            "quarantine_rules": dict(Counter(self.quarantine["rule"].to_pylist())),
            "problems": self.problems,
            "soft_range_rows": dict(self.soft),
            "quarantined_at_import": self.quarantined_at_import,
        }


def check_dataset(dataset: Dataset | str | os.PathLike[str]) -> CheckReport:
    """Check the manifest, every part's bytes, schema, order and rows, the stored states, and the side tables.

    Raises:
        DatasetError: there is no dataset, or its manifest cannot be understood.
    """
    opened = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
    manifest = opened.manifest
    report = CheckReport(
        opened.location,
        manifest.contract_version,
        len(manifest.servers),
        len(manifest.parts),
        manifest.quarantined_rows,
    )
    report.problems += _manifest_problems(opened)
    if report.problems:  # rows can only be judged by a manifest that is sound and of this contract
        return report
    tables = [report.quarantine]
    for part in manifest.parts:
        found = _check_part(opened, part, report)
        if found is not None:
            tables.append(found)
    report.quarantine = pa.concat_tables(tables)
    report.problems += side_table_problems(opened)
    told, counted = manifest.soft_range_counts, dict(report.soft)
    if told and report.ok and told != counted:  # a writer need not count
        report.problems.append(f"manifest: soft_range_counts are {told}, the rows have {counted}")
    return report


def _manifest_problems(dataset: Dataset) -> list[str]:
    manifest = dataset.manifest
    problems = []
    try:
        require_fit(manifest.side("manifest"), this_contract(sample_schema(manifest.metrics).names[4:]))
        ZoneInfo(manifest.timezone)
        server_ids(manifest.servers)
    except (ZoneInfoNotFoundError, ValueError):
        problems.append(f"manifest: unknown time zone {manifest.timezone!r}; expected an IANA name")
    except ContractError as error:
        return [str(error)]
    repeated = [server for server, count in Counter(manifest.servers).items() if count > 1]
    if repeated:
        problems.append(f"manifest: servers in more than one part: {', '.join(repeated[:5])}")
    told = (manifest.rows, manifest.start, manifest.end)
    summed = (
        sum(part.rows for part in manifest.parts),
        min((part.start for part in manifest.parts), default=None),
        max((part.end for part in manifest.parts), default=None),
    )
    if told != summed:
        problems.append(f"manifest: rows, start and end are {told}, its parts have {summed}")
    return problems


def _check_part(dataset: Dataset, part: Part, report: CheckReport) -> pa.Table | None:
    """Quarantine of one part; None when its rows cannot be read. Adds to the report's problems and counts."""
    table = _read(dataset, part, report.problems)
    if table is None:
        return None
    report.rows += table.num_rows
    checked = validate(table, part.name)
    report.soft.update(checked.soft)
    report.problems += _part_problems(part, table)
    return pa.concat_tables([checked.quarantine, _wrong_states(dataset, part, table, checked.quarantine)])


def _read(dataset: Dataset, part: Part, problems: list[str]) -> pa.Table | None:
    try:
        content = dataset.storage.read_bytes(part.name)
    except DatasetError as error:
        problems.append(str(error))
        return None
    digest = hashlib.sha256(content).hexdigest()
    if digest != part.sha256:
        problems.append(f"{part.name}: its SHA-256 is {digest}, the manifest has {part.sha256}")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read()
    except (pa.ArrowException, OSError) as error:
        problems.append(f"{part.name}: not readable as Parquet: {error}")
        return None
    expected = sample_schema(dataset.manifest.metrics)
    stored = pa.schema([(f.name, TIMESTAMP if f.type == pa.timestamp("ms", "UTC") else f.type) for f in table.schema])
    if stored != expected:
        found, wanted = (", ".join(f"{f.name} {f.type}" for f in schema) for schema in (stored, expected))
        problems.append(f"{part.name}: its columns are {found}; expected {wanted}")
        return None
    return table


def _part_problems(part: Part, table: pa.Table) -> list[str]:
    problems = []
    if not table.equals(table.sort_by([("server", "ascending"), ("timestamp", "ascending")])):
        problems.append(f"{part.name}: rows are not sorted by server and time")
    span = pc.min_max(table["timestamp"]).as_py()
    servers = sorted(name for name in pc.unique(table["server"]).to_pylist() if name is not None)
    for what, told, found in (
        ("rows", part.rows, table.num_rows),
        ("servers", part.servers, servers),
        ("start", part.start, span["min"]),
        ("end", part.end, span["max"]),
    ):
        if told != found:
            problems.append(f"{part.name}: {what} {found!r}, the manifest has {told!r}")
    return problems


def _wrong_states(dataset: Dataset, part: Part, table: pa.Table, quarantine: pa.Table) -> pa.Table:
    """Rows whose stored state is another than the function's, among those with a sound server and time."""
    unplaced = quarantine.filter(pc.is_in(quarantine["column"], pa.array(["server", "timestamp"])))["row"]
    rows = np.setdiff1d(np.arange(table.num_rows), unplaced.to_numpy())
    sound = table.take(pa.array(rows)).append_column("row", pa.array(rows))
    sound = sound.sort_by([("server", "ascending"), ("timestamp", "ascending")])
    inside = pc.and_(
        pc.greater_equal(sound["timestamp"], pa.scalar(part.start, TIMESTAMP)),
        pc.less_equal(sound["timestamp"], pa.scalar(part.end, TIMESTAMP)),
    )
    sound = sound.filter(inside)
    expected = state_names(states_of_rows(sound, dataset.maintenance(), dataset.manifest.timezone))
    wrong = np.asarray(pc.fill_null(pc.not_equal(sound["state"], pa.array(expected)), True))
    picked = sound.filter(pa.array(wrong))
    columns = [
        pa.repeat(part.name, picked.num_rows),
        picked["row"],
        picked["server"],
        picked["timestamp"].cast(pa.string()),
        pa.repeat("state", picked.num_rows),
        picked["state"],
        pa.array([f"{STATE_RULE}: {name}" for name in expected[wrong]], pa.string()),
    ]
    return pa.table(columns, names=QUARANTINE.names).cast(QUARANTINE)
