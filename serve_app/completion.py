"""Rows that come in pieces: what is stored of a step is not undone by a piece that comes late."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES, in_contract_order, metric
from serve_app.ring import Ring


def completed(table: pa.Table, ring: Ring) -> pa.Table:
    """The rows, with what the ring has of their server and time where they have no value themselves.

    Columns are `server`, `profile`, `timestamp` and metrics.
    """
    seconds, servers = np.asarray(pc.cast(table["timestamp"], pa.int64())), table["server"].to_pylist()
    values = {
        name: np.array(table[name].to_numpy(zero_copy_only=False), np.float64)
        for name in table.schema.names
        if name in METRIC_NAMES
    }
    here = np.array([ring.profile_of(name) is not None for name in servers], dtype=bool)
    for second in np.unique(seconds[here]):
        places = np.flatnonzero(here & (seconds == second))
        stored = ring.window(int(second), 1, [servers[place] for place in places])
        for column, name in enumerate(stored.metrics):
            found = stored.values[:, 0, column]
            if np.isnan(found).all():
                continue
            mine = values.setdefault(name, np.full(len(servers), np.nan))
            mine[places] = np.where(np.isnan(mine[places]), found, mine[places])
    for name in in_contract_order(values):
        made = pa.array(values[name]).cast(pa.type_for_alias(metric(name).dtype))
        place = table.schema.get_field_index(name)
        table = table.append_column(name, made) if place < 0 else table.set_column(place, name, made)
    return table
