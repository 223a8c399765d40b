"""Forecasts of the caller's own samples, which are not kept."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import STEP_SECONDS, profile_from_host
from fleetcast.errors import ContractError, UsageError
from fleetcast.windows.arrays import FleetArrays, arrays_from_table
from serve_app import views
from serve_app.formats import TABLES, Wanted, table_response
from serve_app.intake import Checked
from serve_app.routes.intake import BODY, read_samples
from serve_app.schedule import STEP
from serve_app.schemas import ErrorAnswer, WindowsAnswer
from serve_app.services import Needed, Reader, TooLargeError, ask
from serve_app.tally import BATCHES, CALLS, WINDOWS
from serve_app.windows import Window, WindowForecast

ANY_TIME = datetime(2200, 1, 1, tzinfo=UTC)  # a window may be of any time: it is not compared with the clock
SINCE_1970 = ANY_TIME - datetime(1970, 1, 1, tzinfo=UTC)
SHOWN = 5
CELLS_A_ROW = 2  # a request may lie so thinly that it takes up as much room as so many times its most rows

router = APIRouter(prefix="/v1", tags=["fleet"])


@router.post(
    "/forecast",
    response_model=WindowsAnswer,
    responses={**TABLES, 413: {"model": ErrorAnswer}, 429: {"model": ErrorAnswer}},
    openapi_extra=BODY,
)
async def forecast(
    http: Request,
    caller: Reader,
    needed: Needed,
    kind: Wanted,
    origin: Annotated[
        datetime | None, Query(description="default: the newest time stamp", examples=["2026-01-12T09:55:00Z"])
    ] = None,
    maintenance: Annotated[
        list[str],
        Query(
            description="planned maintenance as SERVER/START/END, as often as there are windows",
            examples=[["web0001/2026-01-12T12:00:00Z/2026-01-12T14:00:00Z"]],
        ),
    ] = [],  # noqa: B006 (FastAPI copies it)
) -> Any:
    """Forecast servers from samples in the body, JSON rows or an Arrow stream as `POST /v1/samples` takes them.

    Nothing is stored and nothing that the service has stored is used. A bad row refuses the request. Callers that come
    at the same time share a run of the model; the numbers are those of `fleetcast forecast` on the same samples.
    """
    seconds = needed.args.service.request_timeout_s
    deadline = time.time() + seconds
    body, planned, service = await http.body(), _planned(maintenance), needed.args.service

    def read() -> Window:
        checked = read_samples(http, body, service.max_rows_per_request, ANY_TIME, SINCE_1970)
        newest, table = _samples(checked, origin, service.shard_servers)
        most = CELLS_A_ROW * service.max_rows_per_request
        return Window(_laid_out(table, newest, needed.steps, planned, most), newest, deadline)

    window = await run_in_threadpool(read)
    with needed.tally.under_way(WINDOWS):
        found: WindowForecast = await ask(needed.forecaster.windows.remote(window), seconds)
    needed.tally.count(CALLS, WINDOWS)
    needed.tally.count(BATCHES, WINDOWS, 1 / found.batch)
    if kind != "json":
        return table_response(await run_in_threadpool(found.forecast.to_table), kind)
    return await run_in_threadpool(views.windows_answer, found.forecast, found.model)


def _planned(windows: list[str]) -> pa.Table:
    """Planned maintenance of a query. Raises `UsageError` naming the window and what is wrong with it."""
    rows = []
    for text in windows:
        server, *times = text.split("/")
        try:
            start, end = (datetime.fromisoformat(time) for time in times)
            if start.tzinfo is None or end.tzinfo is None or not start < end:
                raise UsageError(f"maintenance={text!r}: times need a zone, and the end comes after the start")
            start, end = start.astimezone(UTC), end.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise UsageError(f"maintenance={text!r} is not SERVER/START/END with ISO 8601 times: {error}") from None
        rows.append({"server": server, "start": start, "end": end})
    return pa.Table.from_pylist(rows, MAINTENANCE)


def _samples(checked: Checked, origin: datetime | None, most: int) -> tuple[datetime, pa.Table]:
    """Origin and samples with profiles. Raises `ContractError`, `UsageError` and `TooLargeError`."""
    if checked.quarantined:
        bad = [f"row {one.row}, {one.column} = {one.value!r}: {one.rule}" for one in checked.quarantined[:SHOWN]]
        raise ContractError(f"{len(checked.quarantined)} values break the contract: " + "; ".join(bad))
    if not checked.table.num_rows:
        raise UsageError("there is no sample to forecast from")
    if origin is not None and origin.tzinfo is None:
        raise UsageError("origin needs a time zone, for example 2026-01-12T09:55:00Z")
    if origin is not None and origin.timestamp() % STEP_SECONDS:
        raise UsageError(f"origin must lie on the {STEP_SECONDS} s grid")
    servers = pc.count_distinct(checked.table["server"]).as_py()
    if servers > most:
        raise TooLargeError(f"{servers} servers, at most {most} a request: send parts")
    newest: datetime = pc.max(checked.table["timestamp"]).as_py()
    return newest.astimezone(UTC) if origin is None else origin, _with_profiles(checked.table)


def _laid_out(table: pa.Table, origin: datetime, steps: int, maintenance: pa.Table, most: int) -> FleetArrays:
    """The samples on an axis that ends at the origin, and begins with them, but not more than `steps` before.

    Raises `TooLargeError` when few samples would take room for more than `most`.
    """
    oldest: datetime = pc.min(table["timestamp"]).as_py()
    start = origin if origin <= oldest else max(oldest, origin - (steps - 1) * STEP)
    servers, span = pc.count_distinct(table["server"]).as_py(), (origin - start) // STEP + 1
    if servers * span > most:
        raise TooLargeError(
            f"{servers} servers over {span} steps have room for {servers * span} samples, at most {most} a request: "
            "send servers whose samples go back equally far together"
        )
    return arrays_from_table(table, start, origin, maintenance)


def _with_profiles(table: pa.Table) -> pa.Table:
    """A row without a profile gets the one that its server's name tells."""
    servers = table["server"].cast(pa.string()).combine_chunks().dictionary_encode()
    told = pa.array([profile_from_host(name) for name in servers.dictionary.to_pylist()], pa.string())
    profiles = pc.coalesce(table["profile"].cast(pa.string()).combine_chunks(), told.take(servers.indices))
    return table.set_column(table.schema.get_field_index("profile"), "profile", profiles)
