"""Reading what cycles kept: past forecasts and risks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.dataset.storage import Storage
from fleetcast.errors import DatasetError, StoreError
from fleetcast.forecast.part import forecast_rows, part_head
from fleetcast.store.engine import Store
from fleetcast.store.forecasts import StoredCycle, newest_cycle, risks_between
from fleetcast.store.samples import unpack

RISK_COLUMNS = ("level", "score", "p_30m", "p_2h", "p_8h", "open", "metric", "source", "reason")


class PastForecasts(NamedTuple):
    """Rows of a stored forecast (schema `forecast_schema`) of some of its `servers`."""

    cycle: StoredCycle
    servers: tuple[str, ...]
    rows: pa.Table


def past_forecasts(
    store: Store, location: str, at: datetime, server: str | None, metric: str | None, limit: int, offset: int
) -> PastForecasts | None:
    """What was forecast at a time: the newest stored forecast from an origin up to then; None when there is none.

    `limit` and `offset` count servers, by name. Raises `StoreError` when the file is lost.
    """
    for last in (False, True):
        with store.reading() as session:
            cycle = newest_cycle(session, int(at.timestamp()))
            if cycle is None or cycle.file is None:
                return None
            _, payload = next(risks_between(session, cycle.origin, cycle.origin))
        names = sorted(unpack(payload)["server"].to_pylist())
        servers = tuple(name for name in names if server is None or name == server)
        try:
            rows = _rows(Storage(location), cycle.file, servers[offset : offset + limit], metric)
        except DatasetError as error:
            if last:
                raise StoreError(f"a stored forecast cannot be read: {error}") from error
            continue  # it was thinned out or replaced after its row was read
        return PastForecasts(cycle, servers, rows)
    return None


def past_risks(store: Store, server: str, now: datetime, hours: float) -> pa.Table:
    """The risks of a server in the last hours, oldest first: `origin` and `RISK_COLUMNS`."""
    until = int(now.timestamp())
    found = []
    with store.reading() as session:
        for origin, payload in risks_between(session, until - int(timedelta(hours=hours).total_seconds()), until):
            table = unpack(payload)
            row = table.filter(pc.equal(table["server"], server)).select(RISK_COLUMNS)
            moment = pa.array([datetime.fromtimestamp(origin, UTC)] * row.num_rows, pa.timestamp("s", tz="UTC"))
            found.append(row.add_column(0, "origin", moment).replace_schema_metadata(None))
    return pa.concat_tables(found[::-1]) if found else _no_risks()


def _rows(folder: Storage, file: str, servers: Sequence[str], metric: str | None) -> pa.Table:
    part = folder.read_where(file, "server", servers)
    head = part_head(part.schema.metadata)
    rows = forecast_rows(part, head)
    return rows if metric is None else rows.filter(pc.equal(rows["metric"], metric))


def _no_risks() -> pa.Table:
    kinds = {name: pa.string() for name in ("level", "metric", "source", "reason")} | {"open": pa.bool_()}
    fields = [(name, kinds.get(name, pa.float64())) for name in RISK_COLUMNS]
    return pa.schema([("origin", pa.timestamp("s", tz="UTC")), *fields]).empty_table()
