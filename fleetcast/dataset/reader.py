"""Reading a dataset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.schema import INCIDENTS, MAINTENANCE, REMEDIATIONS, TIMESTAMP, TOPOLOGY
from fleetcast.dataset.manifest import MANIFEST, Manifest, Part
from fleetcast.dataset.storage import Storage
from fleetcast.errors import DatasetError


class Dataset:
    """An existing dataset; open it with `Dataset.open`."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self.storage, self.manifest = storage, manifest

    @classmethod
    def open(cls, location: str | os.PathLike[str]) -> Dataset:
        """Read the manifest. Raises `DatasetError` when there is none or it cannot be understood."""
        storage = Storage(location)
        if not storage.exists(MANIFEST):
            raise DatasetError(
                f"{storage.location} is no dataset (no {MANIFEST}); make one with `fleetcast simulate` or `import`"
            )
        try:
            manifest = Manifest.model_validate(json.loads(storage.read_bytes(MANIFEST)))
        except ValueError as error:
            raise DatasetError(f"{MANIFEST} of {storage.location} is damaged: {error}") from error
        return cls(storage, manifest)

    @property
    def location(self) -> str:
        """The path or URI that it was opened with."""
        return self.storage.location

    def read(self, part: Part, columns: list[str] | None = None) -> pa.Table:
        """The rows of one part, sorted by server and time; `timestamp` in seconds (Parquet itself keeps none)."""
        table = self.storage.read_table(part.name, columns)
        position = table.schema.get_field_index("timestamp")
        return table if position < 0 else table.set_column(position, "timestamp", table["timestamp"].cast(TIMESTAMP))

    def chunks(self, part: Part, columns: list[str]) -> Iterator[pa.Table]:
        """The rows of one part as `read` gives them, in chunks of whole servers of about a row group each.

        `columns` must hold `server` and `timestamp`. Raises `DatasetError` when the part is missing or damaged.
        """
        position, left = columns.index("timestamp"), None
        for group in self.storage.read_groups(part.name, columns):
            table = group.set_column(position, "timestamp", group["timestamp"].cast(TIMESTAMP))
            if left is not None:
                table = pa.concat_tables([left, table])
            last = table["server"][-1]
            whole = pc.index(table["server"], last).as_py()
            left = table.slice(whole)
            if whole:
                yield table.slice(0, whole)
        if left is not None and left.num_rows:
            yield left

    def tables(self) -> Iterator[pa.Table]:
        """The parts' rows, one part at a time."""
        for part in self.manifest.parts:
            yield self.read(part)

    def incidents(self) -> pa.Table:
        """Known incidents (schema `INCIDENTS`); empty where the dataset has none."""
        return self._side_table("incidents.parquet", INCIDENTS)

    def topology(self) -> pa.Table:
        """Which server depends on which (schema `TOPOLOGY`); empty where unknown."""
        return self._side_table("topology.parquet", TOPOLOGY)

    def maintenance(self) -> pa.Table:
        """Planned windows (schema `MAINTENANCE`); empty where none is planned."""
        return self._side_table("maintenance.parquet", MAINTENANCE)

    def remediations(self) -> pa.Table:
        """When somebody acted on a server, and how long that had effect (schema `REMEDIATIONS`); empty where nobody."""
        return self._side_table("remediations.parquet", REMEDIATIONS)

    def damaged_parts(self) -> list[str]:
        """Names of the parts whose bytes are not those that the manifest tells of."""
        return [part.name for part in self.manifest.parts if not self._intact(part)]

    def _intact(self, part: Part) -> bool:
        if not self.storage.exists(part.name):
            return False
        return hashlib.sha256(self.storage.read_bytes(part.name)).hexdigest() == part.sha256

    def _side_table(self, name: str, schema: pa.Schema) -> pa.Table:
        if not self.storage.exists(name):
            return schema.empty_table()
        return self.storage.read_table(name).cast(schema)
