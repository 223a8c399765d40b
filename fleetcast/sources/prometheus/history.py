"""`fleetcast import prometheus`: a span of a Prometheus' history as a dataset."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.clock import floor_to_step
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import QUARANTINE
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.storage import Storage
from fleetcast.errors import DatasetError, UsageError
from fleetcast.settings import PrometheusSettings
from fleetcast.sources.convert import Converted
from fleetcast.sources.ingest import check_free, progress_bar, write_dataset
from fleetcast.sources.prometheus.client import PrometheusClient
from fleetcast.sources.prometheus.pull import Pull
from fleetcast.sources.report import ImportReport, Tally
from fleetcast.sources.spill import Spill


def import_prometheus(
    settings: PrometheusSettings,
    start: datetime,
    end: datetime,
    out: str | os.PathLike[str],
    *,
    timezone: str = "UTC",
    overwrite: bool = False,
    show_progress: bool = True,
) -> ImportReport:
    """Import the whole steps from `start` up to `end`; rows that break the contract go to the quarantine.

    Raises:
        UsageError: the span or the settings cannot be used.
        SourceError: Prometheus does not answer, or refuses a query.
        DatasetError: `out` holds a dataset, or Prometheus has nothing in the span.
    """
    started = time.monotonic()
    storage = Storage(out)
    check_free(storage, overwrite)
    first, last = _cells(start, end)
    tally = Tally()
    with (
        PrometheusClient(settings) as client,
        tempfile.TemporaryDirectory(prefix="fleetcast-import-") as folder,
        progress_bar(show_progress) as progress,
    ):
        pull, spill = Pull(client, settings), Spill(Path(folder), set(METRIC_NAMES))
        steps = (last - first) // STEP_SECONDS + 1
        task = progress.add_task("asking Prometheus", total=steps, rows="")
        seen: set[str] = set()
        cell = first
        while cell <= last:
            until = min(last, cell + STEP_SECONDS * (pull.chunk_steps - 1))
            converted = _converted(pull.read(cell, until), client.name)
            seen |= set(converted.samples.schema.names) & set(METRIC_NAMES)
            spill.add(converted.samples, 0)
            tally.add(converted)
            progress.update(task, advance=(until - cell) // STEP_SECONDS + 1, rows=f"{tally.rows_read:,} rows")
            cell = until + STEP_SECONDS
        if not spill.servers:
            raise DatasetError(
                f"{client.name} has no host with one of the metrics between {start.isoformat()} and {end.isoformat()}; "
                f"asked was for example {next(iter(pull.queries.values()))!r}"
            )
        spill.keep_only(seen)
        about = {
            "kind": "import prometheus",
            "address": client.name,
            "queries": {name: query for name, query in pull.queries.items() if name in seen},
        }
        return write_dataset(storage, spill, tally, timezone, lambda: {**about, **tally.counts()}, progress, started)


def _cells(start: datetime, end: datetime) -> tuple[int, int]:
    first = int(floor_to_step(start).timestamp())
    first += STEP_SECONDS if first < start.timestamp() else 0
    last = int(floor_to_step(end).timestamp()) - STEP_SECONDS
    if last < first:
        raise UsageError(f"no whole step of {STEP_SECONDS} s lies between {start.isoformat()} and {end.isoformat()}")
    return first, last


def _converted(table: pa.Table, name: str) -> Converted:
    if not table.num_rows:
        empty = pa.table({"server": pa.array([], pa.string()), "profile": pa.array([], pa.string())})
        return Converted(empty.append_column("time", pa.array([], pa.int64())), QUARANTINE.empty_table())
    found = validate(table, name)
    good = found.good
    micros = pc.multiply(pc.cast(good["timestamp"], pa.int64()), 10**6)
    samples = good.drop_columns(["timestamp"]).add_column(2, "time", micros)
    for place, column in enumerate(samples.schema.names):
        if column in METRIC_NAMES:
            values = pa.array(np.asarray(samples[column].to_numpy(), dtype=np.float64))
            samples = samples.set_column(place, column, values)
    soft = {metric: count for metric, count in found.soft.items() if metric in METRIC_NAMES}
    return Converted(samples, found.quarantine, found.quarantined_rows, soft=Counter(soft))
