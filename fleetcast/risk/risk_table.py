"""Risks of one origin as a table, with what is kept from one origin to the next, so that both survive a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from fleetcast.errors import ContractError
from fleetcast.risk.assess import Risk
from fleetcast.risk.cycle import Watch
from fleetcast.risk.hysteresis import HOLD_STEPS, Held

_KEY = b"fleetcast"
_KINDS = {
    "server": pa.string(),
    "profile": pa.string(),
    "p_30m": pa.float64(),
    "p_2h": pa.float64(),
    "p_8h": pa.float64(),
    "open": pa.bool_(),
    "level": pa.string(),
    "score": pa.float64(),
    "metric": pa.string(),
    "metric_probabilities": pa.map_(pa.string(), pa.float64()),
    "breach_s": pa.float64(),
    "breach_low_s": pa.float64(),
    "breach_high_s": pa.float64(),
    "source": pa.string(),
    "reason": pa.string(),
}
_WATCH = {"held": pa.int8(), "recent": pa.list_(pa.int8(), HOLD_STEPS), "before": pa.int8(), "since": pa.int32()}
_LONGEST = 2**31 - 1


def risk_table(risks: Sequence[Risk], kept: Watch, origin: datetime) -> pa.Table:
    """Risks of one origin; `kept` is what `risk.cycle.watch` returned with them, of the same servers in their order."""
    columns = {
        name: pa.array([getattr(risk, name) for risk in risks], kind)
        for name, kind in _KINDS.items()
        if name != "metric_probabilities"
    }
    pairs = [list(risk.metric_probabilities.items()) for risk in risks]
    columns["metric_probabilities"] = pa.array(pairs, _KINDS["metric_probabilities"])
    columns["held"] = pa.array(kept.held.levels, pa.int8())
    flat = pa.array(kept.held.recent.reshape(-1), pa.int8())
    columns["recent"] = pa.FixedSizeListArray.from_arrays(flat, HOLD_STEPS)
    columns["before"] = pa.array(kept.before, pa.int8())
    columns["since"] = pa.array(np.minimum(kept.since, _LONGEST), pa.int32())
    head = {"origin": int(origin.timestamp()), "flapped": kept.flapped, "watched": kept.watched}
    schema = pa.schema([*_KINDS.items(), *_WATCH.items()], metadata={_KEY: json.dumps(head)})
    return pa.table([columns[name] for name in schema.names], schema=schema)


def risks_of(table: pa.Table) -> Iterator[Risk]:
    """The risks of a table of `risk_table`. Raises `ContractError` for any other table."""
    origin = datetime.fromtimestamp(_head(table)["origin"], UTC)
    for row in table.select(list(_KINDS)).to_pylist():
        yield Risk(**{**row, "origin": origin, "metric_probabilities": dict(row["metric_probabilities"])})


def watch_of(table: pa.Table) -> Watch:
    """What was kept with the risks. Raises `ContractError` for a table that is not `risk_table`'s."""
    head = _head(table)
    numbers = {name: np.asarray(table[name], dtype=np.int64) for name in ("held", "before", "since")}
    recent = table["recent"].combine_chunks().flatten()
    held = Held(numbers["held"], np.asarray(recent, dtype=np.int64).reshape(-1, HOLD_STEPS))
    names = tuple(table["server"].to_pylist())
    return Watch(names, held, numbers["before"], numbers["since"], head["flapped"], head["watched"])


def _head(table: pa.Table) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in json.loads((table.schema.metadata or {})[_KEY]).items()}
    except (KeyError, ValueError) as error:
        raise ContractError(f"this is no table of risks: {error!r}") from error
