"""Arrow schemas of the tables that FleetCast reads and writes."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from fleetcast.contract.metrics import in_contract_order, metric

TIMESTAMP = pa.timestamp("s", tz="UTC")

INCIDENTS = pa.schema(
    [
        ("incident", pa.string()),
        ("server", pa.string()),
        ("kind", pa.string()),
        ("cause", pa.string()),
        ("precursor_start", TIMESTAMP),
        ("onset", TIMESTAMP),
        ("end", TIMESTAMP),
    ]
)
TOPOLOGY = pa.schema([("upstream", pa.string()), ("downstream", pa.string()), ("strength", pa.float32())])
MAINTENANCE = pa.schema([("server", pa.string()), ("start", TIMESTAMP), ("end", TIMESTAMP)])
REMEDIATIONS = pa.schema([("server", pa.string()), ("start", TIMESTAMP), ("end", TIMESTAMP)])
QUARANTINE = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("server", pa.string()),
        ("timestamp", pa.string()),
        ("column", pa.string()),
        ("value", pa.string()),
        ("rule", pa.string()),
    ]
)


def sample_schema(metrics: Sequence[str]) -> pa.Schema:
    """Schema of a dataset part: server, profile, timestamp (UTC seconds), state, then the metrics in order."""
    head = [
        ("server", pa.string()),
        ("profile", pa.string()),
        ("timestamp", TIMESTAMP),
        ("state", pa.string()),
    ]
    columns = [(name, pa.type_for_alias(metric(name).dtype)) for name in in_contract_order(metrics)]
    return pa.schema(head + columns)


def forecast_schema(levels: Sequence[float]) -> pa.Schema:
    """Schema of a forecast table: one row a server, metric and step, one column a quantile.

    `timestamp` is `origin` + `step` x 5 min; `source` is `model` or `fallback`, `reason` says why it fell back.
    """
    head = [
        ("server", pa.string()),
        ("profile", pa.string()),
        ("metric", pa.string()),
        ("origin", TIMESTAMP),
        ("step", pa.int32()),
        ("timestamp", TIMESTAMP),
    ]
    quantiles = [(quantile_column(level), pa.float32()) for level in levels]
    return pa.schema([*head, *quantiles, ("source", pa.string()), ("reason", pa.string())])


def quantile_column(level: float) -> str:
    """Column name of a quantile level: 0.1 is `q0.1`."""
    return f"q{level:g}"
