"""A forecast as it is kept: one Parquet file a cycle, from which single servers and metrics can be read.

Rows are a server, metric and step, by server; what is one for the whole file (origin, model) is in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.schema import forecast_schema, quantile_column
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import ContractError
from fleetcast.forecast.table import NONE, ForecastArrays

_KEY = b"fleetcast"
_NO_SAMPLE = "no recent sample of this metric"


class PartHead(NamedTuple):
    """What a part says of itself."""

    origin: datetime
    run: str
    digest: str
    levels: tuple[float, ...]


def part_table(forecast: ForecastArrays, run: str, digest: str) -> pa.Table:
    """The forecast as rows; quantiles are exact, null where there is no forecast."""
    order = np.argsort(np.array(forecast.servers, dtype=object), kind="stable")
    servers, metrics, horizon, levels = forecast.quantiles.shape
    flat = forecast.quantiles[order].reshape(-1, levels)
    missing = np.isnan(flat[:, 0])
    of_server = np.repeat(order, metrics * horizon)
    sources, reasons = np.array(forecast.sources, dtype=object), np.array(forecast.reasons, dtype=object)
    words, codes = np.unique(np.append(reasons, _NO_SAMPLE).astype(str), return_inverse=True)
    unsaid = np.array([word == "" for word in words])[codes]
    reason = np.where(unsaid[of_server] & missing, codes[-1], codes[of_server])
    kinds, kind = np.unique(np.append(sources, NONE).astype(str), return_inverse=True)
    columns = {
        "server": _named(forecast.servers, of_server),
        "profile": _coded(forecast.profiles, of_server),
        "metric": _named(forecast.metrics, np.tile(np.repeat(np.arange(metrics), horizon), servers)),
        "step": pa.array(np.tile(np.arange(1, horizon + 1, dtype=np.int32), servers * metrics)),
        **{quantile_column(q): pa.array(flat[:, place], from_pandas=True) for place, q in enumerate(forecast.levels)},
        "source": _named(kinds.tolist(), np.where(missing, kind[-1], kind[of_server])),
        "reason": _named(words.tolist(), reason),
    }
    head = {"origin": int(forecast.origin.timestamp()), "run": run, "digest": digest, "levels": forecast.levels}
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(head)})


def part_head(metadata: dict[bytes, bytes]) -> PartHead:
    """What the metadata of a part says. Raises `ContractError` when they are not those of one."""
    try:
        head = json.loads(metadata[_KEY])
        origin = datetime.fromtimestamp(head["origin"], UTC)
        return PartHead(origin, head["run"], head["digest"], tuple(head["levels"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ContractError(f"this is no stored forecast: {error!r}") from error


def of_steps(table: pa.Table, steps: Sequence[int]) -> pa.Table:
    """The rows of some steps only."""
    return table.filter(pc.is_in(table["step"], value_set=pa.array(steps, pa.int32())))


def forecast_rows(part: pa.Table, head: PartHead) -> pa.Table:
    """Rows of a part as a forecast table (`contract.schema.forecast_schema`)."""
    origin = int(head.origin.timestamp())
    steps = np.asarray(part["step"], dtype=np.int64)
    columns = {name: part[name] for name in part.schema.names}
    columns["origin"] = pa.chunked_array([pa.array(np.full(len(steps), origin))])
    columns["timestamp"] = pa.chunked_array([pa.array(origin + STEP_SECONDS * steps)])
    schema = forecast_schema(head.levels)
    return pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)


def _named(words: Sequence[str], codes: npt.NDArray[np.integer]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words, pa.string()))


def _coded(words: Sequence[str], rows: npt.NDArray[np.integer]) -> pa.DictionaryArray:
    names, codes = np.unique(np.array(words, dtype=object).astype(str), return_inverse=True)
    return _named(names.tolist(), codes[rows])
