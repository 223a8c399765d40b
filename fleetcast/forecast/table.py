"""A forecast as dense arrays and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.schema import forecast_schema, quantile_column
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import ContractError

MODEL, FALLBACK, NONE = "model", "fallback", "none"


@dataclass(frozen=True)
class ForecastArrays:
    """Quantiles of every server and target over the horizon.

    `quantiles` is float32 [server, metric, step, level], non-decreasing along the levels, in contract units; step k
    (from 1) is at `origin + k x 300 s`. `sources` says for each server whether the model or the untrained fallback
    made it, or that there is none (`none`, quantiles NaN); `reasons` says why it was not the model. A single metric
    without recent samples has NaN quantiles whatever the server's source.
    """

    servers: tuple[str, ...]
    profiles: tuple[str, ...]
    metrics: tuple[str, ...]
    levels: tuple[float, ...]
    origin: datetime
    quantiles: npt.NDArray[np.float32]
    sources: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def horizon(self) -> int:
        """Number of steps."""
        return int(self.quantiles.shape[2])

    def of_servers(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> ForecastArrays:
        """The forecast of these servers, in this order."""
        return ForecastArrays(
            tuple(self.servers[row] for row in rows),
            tuple(self.profiles[row] for row in rows),
            self.metrics,
            self.levels,
            self.origin,
            self.quantiles[list(rows)],
            tuple(self.sources[row] for row in rows),
            tuple(self.reasons[row] for row in rows),
        )

    @staticmethod
    def concat(parts: Sequence[ForecastArrays]) -> ForecastArrays:
        """Forecasts of several shards of servers with one origin, metrics and levels as one."""
        first = parts[0]
        for part in parts[1:]:
            if (part.metrics, part.levels, part.origin) != (first.metrics, first.levels, first.origin):
                raise ContractError("forecasts of different metrics, levels or origins cannot be joined")
        return ForecastArrays(
            tuple(name for part in parts for name in part.servers),
            tuple(name for part in parts for name in part.profiles),
            first.metrics,
            first.levels,
            first.origin,
            np.concatenate([part.quantiles for part in parts]),
            tuple(source for part in parts for source in part.sources),
            tuple(reason for part in parts for reason in part.reasons),
        )

    def to_table(self) -> pa.Table:
        """One row a server, metric and step (schema `forecast_schema(levels)`); nulls where there is no forecast."""
        servers, metrics, horizon, _ = self.quantiles.shape
        per_server, rows = metrics * horizon, servers * metrics * horizon
        steps = np.tile(np.arange(1, horizon + 1, dtype=np.int32), servers * metrics)
        origin = int(self.origin.timestamp())
        flat = self.quantiles.reshape(rows, len(self.levels))
        missing = np.isnan(flat[:, 0])
        reasons = np.repeat(np.array(self.reasons, dtype=object), per_server)
        columns = {
            "server": pa.array(np.repeat(np.array(self.servers, dtype=object), per_server), pa.string()),
            "profile": pa.array(np.repeat(np.array(self.profiles, dtype=object), per_server), pa.string()),
            "metric": pa.array(np.tile(np.repeat(np.array(self.metrics, dtype=object), horizon), servers), pa.string()),
            "origin": pa.array(np.full(rows, origin)),
            "step": pa.array(steps),
            "timestamp": pa.array(origin + STEP_SECONDS * steps.astype(np.int64)),
            **{
                quantile_column(level): pa.array(flat[:, index], from_pandas=True)
                for index, level in enumerate(self.levels)
            },
            "source": pa.array(np.where(missing, NONE, np.repeat(np.array(self.sources, dtype=object), per_server))),
            "reason": pa.array(np.where(missing & (reasons == ""), "no recent sample of this metric", reasons)),
        }
        schema = forecast_schema(self.levels)
        return pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)
