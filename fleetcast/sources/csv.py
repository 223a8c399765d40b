"""CSV files, plain or gzipped: every cell as text, so that what cannot be read is quarantined with its row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from fleetcast.errors import DatasetError
from fleetcast.sources.mapping import FileMapping
from fleetcast.sources.reader import RawBlock

_BLOCK_BYTES = 8 * 1024 * 1024
_HEADER_BYTES = 1024 * 1024


class CsvReader:
    """A header line and one row a line; quoted cells may hold the delimiter, not a line break."""

    kind = "csv"
    suffixes: tuple[str, ...] = (".csv", ".csv.gz")

    def columns(self, path: Path, mapping: FileMapping) -> list[str]:
        """Names in the header line, without the blanks around them."""
        try:
            with pa.input_stream(str(path)) as stream:
                first = stream.read(_HEADER_BYTES).split(b"\n", 1)[0]
            line = first.decode("utf-8-sig").rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"cannot read {path}: {error}") from error
        names = [name.strip() for name in next(csv.reader([line], delimiter=mapping.delimiter), [])]
        if not any(names):
            raise DatasetError(f"{path} has no header line; expected the names of the columns")
        return names

    def blocks(self, path: Path, mapping: FileMapping) -> Iterator[RawBlock]:
        """Blocks of about 8 MB of text; all columns are strings."""
        names = self.columns(path, mapping)
        broken: list[tuple[int, str]] = []

        def set_aside(row: pacsv.InvalidRow) -> str:
            broken.append((row.number, row.text or ""))
            return "skip"

        following = 2
        try:
            reader = pacsv.open_csv(
                str(path),
                pacsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, skip_rows=1, column_names=names),
                pacsv.ParseOptions(
                    delimiter=mapping.delimiter, ignore_empty_lines=False, invalid_row_handler=set_aside
                ),
                pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
            )
            for batch in reader:
                numbers = np.arange(following, following + batch.num_rows + len(broken), dtype=np.int64)
                numbers = numbers[~np.isin(numbers, [row for row, _ in broken])][: batch.num_rows]
                following = int(numbers[-1]) + 1 if len(numbers) else following
                passed = [found for found in broken if found[0] < following]
                del broken[: len(passed)]
                yield RawBlock(pa.Table.from_batches([batch]), numbers, passed)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"cannot read {path}: {error}") from error
        if broken:
            empty = pa.schema([(name, pa.string()) for name in names]).empty_table()
            yield RawBlock(empty, np.empty(0, np.int64), broken)
