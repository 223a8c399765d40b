"""The forecasts of a backtest as a Parquet file, written as they are made and seen whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from fleetcast.contract.schema import forecast_schema
from fleetcast.errors import EvaluationError
from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays

FORECASTS = "forecasts.parquet"


class ForecastFile:
    """A listener (see `protocol.Listener`) that keeps every forecast; as a context manager it finishes the file.

    Until the end the file has another name; an error leaves the old one, or none. Raises `EvaluationError` when it
    cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], levels: Sequence[float]) -> None:
        self.path = Path(folder) / FORECASTS
        self.partial = self.path.with_name(f".{FORECASTS}.{uuid.uuid4().hex}.partial")
        self.levels = tuple(levels)
        self._writer: pq.ParquetWriter | None = None

    def add(self, fleet: FleetArrays, forecasts: Sequence[ForecastArrays]) -> None:
        """Write the forecasts of a chunk of servers."""
        try:
            if self._writer is None:
                self._writer = self._open()
            for forecast in forecasts:
                self._writer.write_table(forecast.to_table())
        except (OSError, pa.ArrowException) as error:
            raise EvaluationError(f"cannot write {self.path}: {error}") from error

    def _open(self) -> pq.ParquetWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return pq.ParquetWriter(
            self.partial, forecast_schema(self.levels), compression="zstd", compression_level=1, store_schema=False
        )

    def __enter__(self) -> ForecastFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        try:
            self._writer.close()
            if kind is None:
                with self.partial.open("rb") as file:
                    os.fsync(file.fileno())
                self.partial.replace(self.path)
        except OSError as problem:
            if kind is None:
                raise EvaluationError(f"cannot write {self.path}: {problem}") from problem
        finally:
            self.partial.unlink(missing_ok=True)
