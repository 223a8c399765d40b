"""What the import asks of a file format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.sources.mapping import FileMapping


@dataclass(frozen=True)
class RawBlock:
    """Consecutive rows of one file as they stand there.

    `rows` are their numbers in the file (CSV: the line, the header being 1; Parquet: the index from 0). `broken` are
    rows that could not be split into columns: number and text.
    """

    table: pa.Table
    rows: npt.NDArray[np.int64]
    broken: list[tuple[int, str]] = field(default_factory=list)


class Reader(Protocol):
    """One file format."""

    kind: str
    suffixes: tuple[str, ...]

    def columns(self, path: Path, mapping: FileMapping) -> list[str]:
        """Names of the columns of a file. Raises `DatasetError` when it cannot be read."""

    def blocks(self, path: Path, mapping: FileMapping) -> Iterator[RawBlock]:
        """The file's rows, a bounded number at a time. Raises `DatasetError` when it is damaged."""
