"""The answers of reading routes as flat tables, for CSV and Arrow."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP, forecast_schema, quantile_column
from serve_app.schemas import FleetItem, ServerForecast, ServerHistory

_TEXT, _NUMBER = pa.string(), pa.float64()
_ITEM = {
    "server": _TEXT, "profile": _TEXT, "state": _TEXT, "level": _TEXT, "score": _NUMBER, "p_30m": _NUMBER,
    "p_2h": _NUMBER, "p_8h": _NUMBER, "open": pa.bool_(), "metric": _TEXT, "breach_s": _NUMBER,
    "breach_low_s": _NUMBER, "breach_high_s": _NUMBER, "source": _TEXT, "reason": _TEXT, "last_sample": TIMESTAMP,
}  # fmt: skip


def fleet_table(items: Sequence[FleetItem]) -> pa.Table:
    """One row a server; besides the fields a column a metric with its newest value, and `p_8h_METRIC`."""
    columns = {name: pa.array([getattr(item, name) for item in items], kind) for name, kind in _ITEM.items()}
    latest, chances = [item.latest for item in items], [item.metric_probabilities for item in items]
    for prefix, rows in (("", latest), ("p_8h_", chances)):
        there = {name for row in rows for name in row}
        for name in (name for name in METRIC_NAMES if name in there):
            columns[f"{prefix}{name}"] = pa.array([row.get(name) for row in rows], _NUMBER)
    return pa.table(columns)


def forecast_table(found: ServerForecast) -> pa.Table:
    """The forecast table of one server (`contract.schema.forecast_schema`)."""
    schema = forecast_schema(found.levels)
    tables = [schema.empty_table()]
    for name, metric in found.metrics.items():
        count = len(metric.timestamps)
        same: dict[str, object] = {"server": found.server, "profile": found.profile, "metric": name}
        same |= {"origin": found.origin, "source": found.source, "reason": found.reason}
        columns: dict[str, Sequence[object]] = {key: [value] * count for key, value in same.items()}
        columns |= {"step": range(1, count + 1), "timestamp": metric.timestamps}
        columns |= {quantile_column(level): metric.quantiles[f"{level:g}"] for level in found.levels}
        tables.append(pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema))
    return pa.concat_tables(tables)


def history_table(found: ServerHistory) -> pa.Table:
    """`timestamp`, `state` and a column a metric."""
    columns = {"timestamp": pa.array(found.timestamps, TIMESTAMP), "state": pa.array(found.states, _TEXT)}
    return pa.table(columns | {name: pa.array(values, _NUMBER) for name, values in found.metrics.items()})
