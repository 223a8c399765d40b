"""A folder on any pyarrow filesystem, with writes that are seen whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from fleetcast.errors import DatasetError


class Storage:
    """A folder given as a local path or a URI (`s3://...`, `gs://...`)."""

    def __init__(self, location: str | os.PathLike[str]) -> None:
        text = os.fspath(location)
        if "://" in text:
            self.filesystem, self.root = pafs.FileSystem.from_uri(text)
        else:
            self.filesystem, self.root = pafs.LocalFileSystem(), os.path.abspath(text)
        self.location = text

    @property
    def is_local(self) -> bool:
        """Whether the folder is on this machine's own filesystem."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def child(self, name: str) -> Storage:
        """A folder in this one."""
        found = Storage.__new__(Storage)
        found.filesystem, found.root = self.filesystem, self.path(name)
        found.location = f"{self.location} {name}" if "://" in self.location else found.root
        return found

    @property
    def reference(self) -> str:
        """What another process opens this folder by: the URI, or the whole local path."""
        return self.location if "://" in self.location else self.root

    def path(self, name: str) -> str:
        """Full path of a file of the folder on its filesystem."""
        return f"{self.root.rstrip('/')}/{name}"

    def create(self) -> None:
        """Make the folder. Raises `DatasetError` when it cannot be made."""
        try:
            self.filesystem.create_dir(self.root, recursive=True)
        except OSError as error:
            raise DatasetError(f"cannot make the folder {self.location}: {error}") from error

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        return bool(self.filesystem.get_file_info(self.path(name)).type == pafs.FileType.File)

    def names(self) -> list[str]:
        """Names of the files in the folder, sorted; empty when there is no folder."""
        found = self.filesystem.get_file_info(pafs.FileSelector(self.root, allow_not_found=True))
        return sorted(info.base_name for info in found if info.type == pafs.FileType.File)

    def read_bytes(self, name: str) -> bytes:
        """Content of a file. Raises `DatasetError` when it is not there."""
        try:
            with self.filesystem.open_input_stream(self.path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError as error:
            raise DatasetError(f"{self.location} has no {name}") from error

    def write_bytes(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a file atomically. Raises `DatasetError` (full or read-only disk) and leaves nothing behind."""
        partial = self.path(f".{name}.{uuid.uuid4().hex}.partial") if self.is_local else self.path(name)
        try:
            with self.filesystem.open_output_stream(partial) as stream:
                stream.write(content)
            if self.is_local:
                _flush(partial)
                os.replace(partial, self.path(name))
        except OSError as error:
            if self.is_local and os.path.exists(partial):
                os.unlink(partial)
            raise DatasetError(f"cannot write {name} to {self.location}: {error}") from error

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file as a table. Raises `DatasetError` when it is missing or damaged."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as file:
                return pq.ParquetFile(file).read(columns=columns)
        except FileNotFoundError as error:
            raise DatasetError(f"{self.location} has no {name}") from error
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{name} in {self.location} is damaged: {error}") from error

    def read_groups(self, name: str, columns: list[str]) -> Iterator[pa.Table]:
        """The row groups of a Parquet file, one at a time. Raises `DatasetError` when it is missing or damaged."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as file:
                reader = pq.ParquetFile(file)
                for number in range(reader.num_row_groups):
                    yield reader.read_row_group(number, columns)
        except FileNotFoundError as error:
            raise DatasetError(f"{self.location} has no {name}") from error
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{name} in {self.location} is damaged: {error}") from error

    def read_where(self, name: str, column: str, values: Sequence[str]) -> pa.Table:
        """The rows of a Parquet file whose text in a column is one of `values`, with the file's metadata.

        Groups of rows outside their range are not read. Raises `DatasetError` when the file is missing or damaged.
        """
        try:
            wanted = pc.field(column).isin(pa.array(values, pa.string()))
            if values:  # groups are told apart by a range alone
                wanted = wanted & (pc.field(column) >= min(values)) & (pc.field(column) <= max(values))
            table = pq.read_table(self.path(name), filesystem=self.filesystem, filters=wanted)
            return table.replace_schema_metadata(self.read_metadata(name))
        except FileNotFoundError as error:
            raise DatasetError(f"{self.location} has no {name}") from error
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{name} in {self.location} is damaged: {error}") from error

    def read_metadata(self, name: str) -> dict[bytes, bytes]:
        """Key-value metadata of a Parquet file. Raises `DatasetError` when it is missing or damaged."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as file:
                return dict(pq.read_metadata(file).metadata or {})
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{name} in {self.location} is missing or damaged: {error}") from error

    def write_table(self, name: str, table: pa.Table, group_rows: int | None = None) -> str:
        """Write a table as Parquet (zstd, deterministic) atomically; returns the SHA-256 of the bytes.

        `group_rows` are the rows of a group, the least that is read at a time; by default a million.
        """
        content = parquet_buffer(table, group_rows)
        with ThreadPoolExecutor(1) as beside:  # the digest is made while the disk is waited for
            digest = beside.submit(sha256, content)
            self.write_bytes(name, content)
            return digest.result().hexdigest()

    def delete(self, name: str) -> None:
        """Delete a file; it is no error when it is not there."""
        if self.exists(name):
            self.filesystem.delete_file(self.path(name))


def parquet_buffer(table: pa.Table, group_rows: int | None = None) -> pa.Buffer:
    """A table as a Parquet file: zstd, floats split into byte streams, times as differences, words as a dictionary."""
    kinds = {field.name: field.type for field in table.schema}
    words = [name for name, kind in kinds.items() if pa.types.is_dictionary(kind) or pa.types.is_string(kind)]
    encodings = {name: "BYTE_STREAM_SPLIT" for name, kind in kinds.items() if pa.types.is_floating(kind)}
    encodings |= {name: "DELTA_BINARY_PACKED" for name, kind in kinds.items() if pa.types.is_timestamp(kind)}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=1,
        store_schema=False,
        use_dictionary=words,
        column_encoding=encodings,
    ) as writer:
        writer.write_table(table, group_rows)
        if table.schema.metadata:
            writer.add_key_value_metadata(table.schema.metadata)
    return sink.getvalue()


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
