"""What a reader takes: JSON, CSV or an Arrow IPC stream, by the header `Accept`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.csv as pacsv
from fastapi import Depends, Response
from starlette.requests import HTTPConnection

from fleetcast.errors import ServiceError

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
Format = Literal["json", "csv", "arrow"]
_KINDS: dict[str, Format] = {JSON: "json", CSV: "csv", ARROW: "arrow"}
TABLES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON as described, or the same as a table when `Accept` asks for CSV or Arrow",
        "content": {CSV: {"schema": {"type": "string"}}, ARROW: {"schema": {"type": "string", "format": "binary"}}},
    },
}
"""What routes that answer in all three say of it in the OpenAPI document."""


class NotAcceptableError(ServiceError):
    """No format that the service writes is one that the reader takes (406)."""


def wanted(connection: HTTPConnection) -> Format:
    """The format that `Accept` likes best; JSON where it says nothing. Raises `NotAcceptableError`."""
    ranked: list[tuple[float, int, Format]] = []
    for place, entry in enumerate(connection.headers.get("accept", "").split(",")):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        weight = _weight(parameters)
        ranked += [(-weight, place, found) for name, found in _KINDS.items() if weight > 0 and _matches(kind, name)]
    if not ranked:
        raise NotAcceptableError(f"Accept names no format that there is: {JSON}, {CSV} or {ARROW}")
    return min(ranked, key=lambda one: one[:2])[2]


def table_response(table: pa.Table, kind: Format) -> Response:
    """A table as CSV or Arrow; columns of maps are left out of CSV."""
    sink = pa.BufferOutputStream()
    if kind == "csv":
        flat = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
        pacsv.write_csv(table.select(flat), sink)
        return Response(sink.getvalue().to_pybytes(), media_type=CSV)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Response(sink.getvalue().to_pybytes(), media_type=ARROW)


def _matches(pattern: str, kind: str) -> bool:
    return pattern in ("", "*/*", kind, kind.partition("/")[0] + "/*")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


Wanted = Annotated[Format, Depends(wanted)]
