"""Reading what has been: past forecasts, and the risks of a server over time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.errors import UsageError
from serve_app.formats import TABLES, Wanted, table_response
from serve_app.past import PastForecasts, past_forecasts, past_risks
from serve_app.routes.fleet import Hours, ServerName, unseen
from serve_app.schemas import ModelName
from serve_app.schemas_past import ForecastPage, RiskPoint, ServerRisk, StoredForecast, StoredMetric
from serve_app.services import Needed, NoSuchThingError, Reader, ask
from serve_app.views import numbers

MOST_SERVERS = 1000

router = APIRouter(prefix="/v1", tags=["fleet"])


@router.get("/servers/{name}/risk", response_model=ServerRisk, responses=TABLES)
async def risk(name: ServerName, caller: Reader, needed: Needed, kind: Wanted, hours: Hours = 24.0) -> Any:
    """A server's risk as the last cycle saw it, and as those of the last hours did; tables hold the latter."""
    found: ServerRisk | None = await ask(needed.watcher.risk.remote(name))
    if found is None:
        raise unseen(name)
    table = await run_in_threadpool(past_risks, needed.store, name, needed.clock.now(), hours)
    if kind != "json":
        return table_response(table, kind)
    return found.model_copy(update={"past": [RiskPoint(**row) for row in table.to_pylist()]})


@router.get("/forecasts", response_model=ForecastPage, responses=TABLES)
async def forecasts(
    caller: Reader,
    needed: Needed,
    kind: Wanted,
    at: Annotated[datetime | None, Query(examples=["2026-01-12T10:00:00Z"])] = None,
    server: Annotated[str | None, Query(max_length=253)] = None,
    metric: Annotated[str | None, Query(max_length=64, examples=["cpu_utilization"])] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_SERVERS)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Any:
    """What was forecast at a time (default: now): the newest stored forecast from an origin up to then, by server."""
    if at is not None and at.tzinfo is None:
        raise UsageError("at needs a time zone, for example 2026-01-05T12:00:00Z")
    if metric is not None:
        contract_metric(metric)
    location = needed.args.forecasts
    if location is None:
        raise NoSuchThingError("this service keeps no forecasts: set FLEETCAST_FORECASTS")
    moment = needed.clock.now() if at is None else at
    found = await run_in_threadpool(past_forecasts, needed.store, location, moment, server, metric, limit, offset)
    if found is None:
        raise NoSuchThingError(f"no forecast from {moment.isoformat()} or before is kept")
    return await run_in_threadpool(_page, found) if kind == "json" else table_response(found.rows, kind)


def _page(found: PastForecasts) -> ForecastPage:
    cycle = found.cycle
    return ForecastPage(
        origin=datetime.fromtimestamp(cycle.origin, UTC),
        model=ModelName(run=cycle.run, digest=cycle.digest),
        whole=cycle.whole,
        total=len(found.servers),
        items=_servers(found.rows),
    )


def _servers(rows: pa.Table) -> list[StoredForecast]:
    """Rows by server, metric and step as one entry a server."""
    items: dict[str, StoredForecast] = {}
    quantiles = [name for name in rows.schema.names if name.startswith("q")]
    for part in _runs(rows):
        head = part.slice(0, 1).to_pylist()[0]
        item = items.setdefault(
            head["server"], StoredForecast(server=head["server"], profile=head["profile"], metrics={})
        )
        item.metrics[head["metric"]] = StoredMetric(
            source=head["source"],
            reason=head["reason"],
            steps=part["step"].to_pylist(),
            timestamps=part["timestamp"].to_pylist(),
            quantiles={name[1:]: numbers(np.asarray(part[name].to_numpy(), np.float64)) for name in quantiles},
        )
    return list(items.values())


def _runs(rows: pa.Table) -> list[pa.Table]:
    """The rows of each server and metric, which lie together."""
    steps = np.asarray(pc.cast(rows["step"], pa.int64()))
    if not len(steps):
        return []
    starts = np.flatnonzero(np.append(True, np.diff(steps) <= 0))
    ends = np.append(starts[1:], len(steps))
    return [rows.slice(start, end - start) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
