"""Parquet files of other systems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetcast.errors import DatasetError
from fleetcast.sources.mapping import FileMapping
from fleetcast.sources.reader import RawBlock

_BLOCK_ROWS = 262_144


class ParquetReader:
    """Flat columns of numbers, text or time stamps."""

    kind = "parquet"
    suffixes: tuple[str, ...] = (".parquet",)

    def columns(self, path: Path, mapping: FileMapping) -> list[str]:
        """Names of the columns."""
        try:
            return list(pq.read_schema(path).names)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"cannot read {path}: {error}") from error

    def blocks(self, path: Path, mapping: FileMapping) -> Iterator[RawBlock]:
        """Blocks of at most 262,144 rows with the columns' own types."""
        following = 0
        try:
            with pq.ParquetFile(path) as file:
                wanted = sorted(mapping.mapped_columns)
                for batch in file.iter_batches(_BLOCK_ROWS, columns=wanted, use_threads=False):
                    rows = np.arange(following, following + batch.num_rows, dtype=np.int64)
                    following += batch.num_rows
                    yield RawBlock(pa.Table.from_batches([batch]), rows)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"cannot read {path}: {error}") from error
