"""Whether the tables beside a dataset's parts fit its servers and make sense."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import DatasetError


def side_table_problems(dataset: Dataset) -> list[str]:
    """Problems of incidents, topology, maintenance and remediations: columns, unknown servers, ends before starts."""
    tables: list[tuple[str, Callable[[], pa.Table], list[str], list[tuple[str, str]]]] = [
        ("incidents", dataset.incidents, ["server"], [("precursor_start", "onset"), ("onset", "end")]),
        ("topology", dataset.topology, ["upstream", "downstream"], []),
        ("maintenance", dataset.maintenance, ["server"], [("start", "end")]),
        ("remediations", dataset.remediations, ["server"], [("start", "end")]),
    ]
    known = pa.array(dataset.manifest.servers, pa.string())
    problems = []
    for name, read, server_columns, spans in tables:
        try:
            table = read()
        except (DatasetError, pa.ArrowException, ValueError) as error:
            problems.append(f"{name}.parquet: {error}")
            continue
        for column in server_columns:
            foreign = pc.unique(table[column].filter(pc.invert(pc.is_in(table[column], known)))).to_pylist()
            if foreign:
                problems.append(f"{name}.parquet: {column} that the dataset does not have: {foreign[:5]}")
        for first, last in spans:
            backwards = int(pc.sum(pc.greater(table[first], table[last])).as_py() or 0)
            if backwards:
                problems.append(f"{name}.parquet: {backwards} rows with {first} after {last}")
    return problems
