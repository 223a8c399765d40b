"""Writing a dataset: parts first, the manifest last, each file whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import in_contract_order
from fleetcast.contract.schema import sample_schema
from fleetcast.contract.servers import server_ids
from fleetcast.dataset.manifest import MANIFEST, Manifest, Part
from fleetcast.dataset.storage import Storage
from fleetcast.errors import DatasetError

ORIGIN = "fleetcast.origin"


def part_name(number: int) -> str:
    """File name of the part with this number, from 0."""
    return f"part-{number:05d}.parquet"


def write_part(
    storage: Storage, number: int, table: pa.Table, metrics: Sequence[str], in_order: bool = False, origin: str = ""
) -> Part:
    """Write whole servers as one part and describe it.

    `table` has the columns of `sample_schema(metrics)`, words may be dictionary-encoded. It is sorted by server and
    time here unless it is `in_order` already. `origin` is kept in the file's metadata (`part_origin`).

    Raises `DatasetError` when there is no row, or the part cannot be written.
    """
    if not table.num_rows:
        raise DatasetError(f"{part_name(number)} of {storage.location} would have no sample")
    ordered = table.select(sample_schema(metrics).names)
    if not in_order:
        ordered = ordered.cast(sample_schema(metrics))
        ordered = ordered.sort_by([("server", "ascending"), ("timestamp", "ascending")])
    if origin:
        ordered = ordered.replace_schema_metadata({ORIGIN: origin})
    name = part_name(number)
    return describe_part(name, ordered, storage.write_table(name, ordered))


def part_origin(storage: Storage, name: str) -> str:
    """The `origin` that a part was written with, "" for none. Raises `DatasetError` when it is missing or damaged."""
    found = storage.read_metadata(name).get(ORIGIN.encode(), b"")
    return found.decode()


def describe_part(name: str, table: pa.Table, digest: str) -> Part:
    """What the manifest says of a part with these rows, whose bytes have this SHA-256."""
    span = pc.min_max(table["timestamp"]).as_py()
    return Part(
        name=name,
        sha256=digest,
        rows=table.num_rows,
        servers=sorted(pc.unique(table["server"]).to_pylist()),
        start=span["min"],
        end=span["max"],
    )


def write_manifest(
    storage: Storage,
    parts: Sequence[Part],
    metrics: Sequence[str],
    timezone: str = "UTC",
    source: dict[str, Any] | None = None,
    quarantined_rows: int = 0,
    soft_range_counts: dict[str, int] | None = None,
) -> Manifest:
    """Make the dataset visible. Raises `DatasetError` when it is empty or a server is in two parts."""
    ordered = sorted(parts, key=lambda part: part.name)
    if not ordered or not any(part.rows for part in ordered):
        raise DatasetError(f"nothing to write to {storage.location}: no row was good")
    names = [server for part in ordered for server in part.servers]
    values, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        raise DatasetError(f"servers in more than one part: {', '.join(values[counts > 1][:5])}")
    server_ids(names)
    manifest = Manifest(
        metrics=list(in_contract_order(metrics)),
        timezone=timezone,
        rows=sum(part.rows for part in ordered),
        start=min(part.start for part in ordered),
        end=max(part.end for part in ordered),
        source=source or {},
        quarantined_rows=quarantined_rows,
        soft_range_counts=soft_range_counts or {},
        parts=ordered,
    )
    storage.write_bytes(MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
    return manifest
