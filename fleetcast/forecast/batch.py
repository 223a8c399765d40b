"""Forecasting a whole dataset with Ray Data, part by part, to one forecast table."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data
from pydantic import BaseModel

from fleetcast.contract.compatibility import require_fit
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import DatasetError
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.forecast.origin import chosen_origin
from fleetcast.forecast.table import FALLBACK, MODEL, NONE
from fleetcast.heap import keep_freed_memory
from fleetcast.model.manifest import load_manifest
from fleetcast.runtime import quiet_ray_data
from fleetcast.windows.arrays import arrays_from_table

Report = Callable[[int, int], None]


class BatchSummary(BaseModel):
    """What a batch forecast made: servers by source, and the reasons of those that the model did not forecast."""

    out: str
    origin: datetime
    servers: int
    rows: int
    sources: dict[str, int]
    reasons: dict[str, str]


@lru_cache(maxsize=2)
def _loaded(bundle: str, weights_sha256: str) -> Forecaster:
    """The bundle, loaded once a worker process."""
    keep_freed_memory()
    return Forecaster.load(bundle)


def _forecast_parts(numbers: pa.Table, bundle: str, weights_sha256: str, data: str, origin: datetime) -> pa.Table:
    """Forecast table of the parts with the numbers in column `id`."""
    forecaster, dataset = _loaded(bundle, weights_sha256), Dataset.open(data)
    manifest, tables = dataset.manifest, []
    for number in numbers["id"].to_pylist():
        table = dataset.read(manifest.parts[number], ["server", "profile", "timestamp", *manifest.metrics])
        fleet = arrays_from_table(table, manifest.start, manifest.end, dataset.maintenance(), manifest.timezone)
        tables.append(forecaster.forecast(fleet, origin).to_table())
    return pa.concat_tables(tables)


def forecast_dataset(
    bundle: str | os.PathLike[str],
    data: str,
    out: str | os.PathLike[str],
    origin: datetime | None = None,
    workers: int | None = None,
    report: Report = lambda done, total: None,
) -> BatchSummary:
    """Forecast every server of a dataset from one origin (default: its last time stamp) into a Parquet file.

    The file appears whole or not at all. `report(done, total)` counts servers. Ray must be connected.

    Raises `IncompatibleError` when model and data do not fit, `UsageError` for an origin outside the data.
    """
    dataset, path = Dataset.open(data), os.fspath(Path(bundle).resolve())
    manifest = dataset.manifest
    model = load_manifest(path)
    require_fit(model.side(f"bundle {bundle}"), manifest.side(f"dataset {data}"))
    origin = chosen_origin(manifest, origin)
    count = len(manifest.parts)
    with quiet_ray_data(preserve_order=True):
        tables = ray.data.range(count, override_num_blocks=count).map_batches(
            partial(_forecast_parts, bundle=path, weights_sha256=model.weights_sha256, data=data, origin=origin),
            batch_size=1,
            batch_format="pyarrow",
            concurrency=workers,
        )
        return _collect(tables, Path(out), origin, len(manifest.servers), report)


def _collect(tables: ray.data.Dataset, out: Path, origin: datetime, total: int, report: Report) -> BatchSummary:
    """Stream the parts' tables into one file."""
    unfinished = out.with_name(f".{out.name}.{uuid.uuid4().hex}.partial")
    sources: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    rows, writer = 0, None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        batches: Iterator[pa.Table] = tables.iter_batches(batch_format="pyarrow", batch_size=None)  # type: ignore[assignment]
        for table in batches:
            writer = writer or pq.ParquetWriter(unfinished, table.schema, compression="zstd")
            writer.write_table(table)
            rows += table.num_rows
            found = _reasons(table)
            sources.update(source for source, _ in found.values())
            reasons.update({server: reason for server, (source, reason) in found.items() if source != MODEL})
            report(sources.total(), total)
        if writer is not None:
            writer.close()
            unfinished.replace(out)
    except OSError as error:
        raise DatasetError(f"cannot write {out}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return BatchSummary(
        out=str(out), origin=origin, servers=sources.total(), rows=rows, sources=dict(sources), reasons=reasons
    )


def _reasons(table: pa.Table) -> dict[str, tuple[str, str]]:
    """Source and reason of each server: the best source among its metrics."""
    first = table.filter(pc.equal(table["step"], 1)).select(["server", "source", "reason"])
    rank = {MODEL: 0, FALLBACK: 1, NONE: 2}
    found: dict[str, tuple[str, str]] = {}
    for row in sorted(first.to_pylist(), key=lambda row: rank[row["source"]]):
        found.setdefault(row["server"], (row["source"], row["reason"]))
    return found
