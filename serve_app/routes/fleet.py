"""Reading: status, fleet, forecasts, history."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from fleetcast import __version__
from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.vocabulary import VERSION
from fleetcast.forecast.explanation import Explanation
from serve_app.formats import TABLES, Wanted, table_response
from serve_app.history import HistoryInfo
from serve_app.schemas import (
    ClockInfo,
    DemoState,
    FleetPage,
    ForecastSource,
    Heatmap,
    Level,
    ServerForecast,
    ServerHistory,
    Status,
    Trends,
    WhoAmI,
)
from serve_app.services import AnyKey, Needed, NoSuchThingError, Reader, ask
from serve_app.tables import fleet_table, forecast_table, history_table
from serve_app.views import FleetQuery, FleetSort, Order
from serve_app.watcher import WatcherStatus

MOST_ROWS = 10_000
MOST_HOURS = 24.0 * 8

Hours = Annotated[float, Query(gt=0, le=MOST_HOURS)]
ServerName = Annotated[str, Path(min_length=1, max_length=253, examples=["ppweb0001"])]

router = APIRouter(prefix="/v1", tags=["fleet"])


@router.get("/whoami")
async def whoami(caller: AnyKey) -> WhoAmI:
    """The owner of the key and its scopes."""
    return WhoAmI(name=caller.name, scopes=sorted(caller.scopes))


@router.get("/status")
async def status(caller: Reader, needed: Needed) -> Status:
    """How the service is: readiness and why not, model, clock, last cycle, samples."""
    watcher: WatcherStatus = await ask(needed.watcher.status.remote())
    now = needed.clock.now()  # what the watcher says is of now
    history: HistoryInfo = await ask(needed.history.info.remote())
    clock = needed.args.clock
    scenario = watcher.scenario
    return Status(
        ready=not watcher.reasons,
        reasons=watcher.reasons,
        version=__version__,
        contract_version=VERSION,
        model=watcher.model,
        model_refused=watcher.refused,
        clock=ClockInfo(now=now, simulated=clock.origin is not None, speed=clock.speed),
        cycle=watcher.cycle,
        servers=history.servers,
        newest_sample=history.newest,
        shadow=needed.shadow,
        demo=None if scenario is None else DemoState(scenario=scenario.name, since=scenario.since),
        sources=history.sources,
    )


@router.get("/fleet", response_model=FleetPage, responses=TABLES)
async def fleet(
    caller: Reader,
    needed: Needed,
    kind: Wanted,
    profile: Annotated[str | None, Query(max_length=64, examples=["database"])] = None,
    level: Level | None = None,
    state: Annotated[str | None, Query(max_length=64, examples=["maintenance"])] = None,
    source: ForecastSource | None = None,
    server: Annotated[str | None, Query(max_length=253, description="a part of the name", examples=["ppdb"])] = None,
    sort: FleetSort = "score",
    order: Annotated[Order | None, Query(description="by default the riskiest, or the first, come first")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Any:
    """A page of servers with state, risk and newest values, and the summary of the whole fleet with the probability
    that any server gets an incident within 30 min and 8 h. A table holds the servers only."""
    query = FleetQuery(profile, level, state, source, server, sort, order, limit, offset)
    page: FleetPage = await ask(needed.watcher.fleet.remote(query))
    return page if kind == "json" else table_response(fleet_table(page.items), kind)


@router.get("/servers/{name}/forecast", response_model=ServerForecast, responses=TABLES)
async def forecast(name: ServerName, caller: Reader, needed: Needed, kind: Wanted) -> Any:
    """The last cycle's forecast of a server; step 1 is one step after the origin."""
    found: ServerForecast | None = await ask(needed.watcher.forecast.remote(name))
    if found is None:
        raise unseen(name)
    return found if kind == "json" else table_response(forecast_table(found), kind)


@router.get("/servers/{name}/explain")
async def explain(name: ServerName, caller: Reader, needed: Needed) -> Explanation:
    """Why a server's last forecast is what it is: drivers of each target's peak, attention, weights of the inputs."""
    found: Explanation | None = await ask(needed.watcher.explain.remote(name))
    if found is None:
        raise unseen(name)
    return found


@router.get("/servers/{name}/history", response_model=ServerHistory, responses=TABLES)
async def history(name: ServerName, caller: Reader, needed: Needed, kind: Wanted, hours: Hours = 24.0) -> Any:
    """The last samples of a server, on the grid up to the fleet's newest sample."""
    found: ServerHistory | None = await ask(needed.history.of_server.remote(name, hours))
    if found is None:
        raise NoSuchThingError(f"there is no sample of a server {name!r}")
    return found if kind == "json" else table_response(history_table(found), kind)


@router.get("/trends")
async def trends(caller: Reader, needed: Needed, metric: str = "cpu_utilization", hours: Hours = 24.0) -> Trends:
    """Mean and 90th percentile of a metric by profile."""
    contract_metric(metric)
    found: Trends = await ask(needed.history.trends.remote(metric, hours))
    return found


@router.get("/heatmap")
async def heatmap(caller: Reader, needed: Needed, metric: str = "cpu_utilization") -> Heatmap:
    """Forecast medians of a metric, every server by profile."""
    contract_metric(metric)
    found: Heatmap | None = await ask(needed.watcher.heatmap.remote(metric))
    if found is None:
        raise NoSuchThingError(f"the model does not forecast {metric}; GET /v1/status names its targets")
    return found


def unseen(name: str) -> NoSuchThingError:
    """No cycle has seen the server."""
    return NoSuchThingError(f"no forecast cycle has seen a server {name!r}; GET /v1/fleet lists those it saw")
