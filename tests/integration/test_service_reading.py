"""Reading in all formats, past forecasts, the stream after a break, and the OpenAPI document held to its word."""

from __future__ import annotations

import io
import json
import select
import socket
from base64 import b64encode
from datetime import datetime, timedelta
from typing import Any
from unittest import SkipTest

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from websockets.sync.client import connect as connect_socket

from fleetcast.contract.schema import forecast_schema
from serve_app.formats import ARROW, CSV
from tests.integration.served import Running, bearer, wait_for

LET_GO_S = 120  # a ping every 20 s, whose answer may take as long

LOOSE = [positive_data_acceptance, negative_data_rejection]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


def name_of(filled: Running) -> str:
    return str(filled.get("/v1/fleet", source="model", sort="server", limit=1)["items"][0]["server"])


def same_origin(filled: Running, *paths: str) -> list[httpx.Response]:
    """Answers of several reads between two cycles."""

    def read() -> Any:
        before = filled.get("/v1/fleet", limit=1)["origin"]
        answers = [
            filled.client.get(path.partition("@")[0], headers={"Accept": path.partition("@")[2] or "application/json"})
            for path in paths
        ]
        return answers if filled.get("/v1/fleet", limit=1)["origin"] == before else None

    found: list[httpx.Response] = wait_for(read, "two reads in one cycle")
    return found


def test_csv_and_arrow_hold_what_json_says(filled: Running) -> None:
    name = name_of(filled)
    path = f"/v1/servers/{name}/forecast"
    as_json, as_csv, as_arrow = same_origin(filled, path, f"{path}@{CSV}", f"{path}@{ARROW}")
    assert as_csv.headers["content-type"].startswith(CSV)
    table, found = pa.ipc.open_stream(as_arrow.content).read_all(), as_json.json()
    assert table.schema.equals(forecast_schema(found["levels"]))
    text = pacsv.read_csv(io.BytesIO(as_csv.content))
    for metric, one in found["metrics"].items():
        for rows in (table, text):
            mine = rows.filter(pa.compute.equal(rows["metric"], metric))
            np.testing.assert_allclose(np.asarray(mine["q0.5"]), one["quantiles"]["0.5"], atol=1e-6)
    fleet = filled.client.get("/v1/fleet", params={"sort": "server"}, headers={"Accept": ARROW}).content
    servers = pa.ipc.open_stream(fleet).read_all()["server"].to_pylist()
    assert servers == [item["server"] for item in filled.get("/v1/fleet", sort="server")["items"]]
    history = filled.client.get(f"/v1/servers/{name}/history", params={"hours": 2}, headers={"Accept": CSV})
    assert len(pacsv.read_csv(io.BytesIO(history.content))) == 24
    assert filled.client.get("/v1/fleet", headers={"Accept": "image/png"}).status_code == 406


def test_an_answer_that_has_not_changed_is_not_sent_again(filled: Running) -> None:
    path = f"/v1/servers/{name_of(filled)}/forecast"

    def unchanged() -> bool:
        first = filled.client.get(path)
        tag = first.headers["etag"]
        again = filled.client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
        if again.status_code == 200:
            assert again.headers["etag"] != tag
            return False  # a cycle lay between
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        return True

    wait_for(unchanged, "an unchanged answer")
    assert filled.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert httpx.get(filled.address + path, headers={"If-None-Match": "*"}, trust_env=False).status_code == 401


def test_the_fleet_is_filtered_and_sorted_by_what_is_asked(filled: Running) -> None:
    everyone = filled.get("/v1/fleet", limit=1000)["items"]
    for field, value in (("source", "model"), ("state", everyone[0]["state"]), ("level", everyone[0]["level"])):
        found = filled.get("/v1/fleet", limit=1000, **{field: value})["items"]
        assert found
        assert {item[field] for item in found} == {value}
    part = everyone[0]["server"][2:6].upper()
    assert all(part.lower() in item["server"] for item in filled.get("/v1/fleet", server=part)["items"])
    for order in ("asc", "desc"):
        values = [item["p_8h"] for item in filled.get("/v1/fleet", sort="p_8h", order=order, limit=1000)["items"]]
        known = [value for value in values if value is not None]
        assert known == sorted(known, reverse=order == "desc")
        assert values[len(known) :] == [None] * (len(values) - len(known))
    summary = filled.get("/v1/fleet", limit=1)["summary"]
    assert 0 <= summary["p_any_30m"] <= summary["p_any_8h"] <= 1


def test_past_forecasts_are_what_was_served_then(filled: Running) -> None:
    name = name_of(filled)
    served = filled.get(f"/v1/servers/{name}/forecast")
    origin = datetime.fromisoformat(served["origin"])
    wait_for(lambda: filled.get(f"/v1/servers/{name}/forecast")["origin"] != served["origin"], "the next cycle")
    page = filled.get("/v1/forecasts", at=(origin + timedelta(seconds=299)).isoformat(), server=name)
    assert (page["origin"], page["total"], page["whole"], page["model"]) == (served["origin"], 1, True, served["model"])
    metrics = page["items"][0]["metrics"]
    for metric, one in served["metrics"].items():
        assert metrics[metric]["timestamps"] == one["timestamps"]
        assert metrics[metric]["source"] == served["source"]
        for level, path in one["quantiles"].items():
            assert metrics[metric]["quantiles"][level] == path
    two = filled.get("/v1/forecasts", at=served["origin"], limit=2, offset=1, metric="cpu_utilization")
    names = [item["server"] for item in filled.get("/v1/forecasts", at=served["origin"])["items"]]
    assert filled.get("/v1/forecasts", at=served["origin"], server="nobody")["items"] == []
    assert [item["server"] for item in two["items"]] == sorted(names)[1:3]
    assert all(list(item["metrics"]) == ["cpu_utilization"] for item in two["items"])
    rows = filled.client.get("/v1/forecasts", params={"at": served["origin"]}, headers={"Accept": ARROW}).content
    assert set(pa.ipc.open_stream(rows).read_all()["server"].to_pylist()) == set(names)
    for query, status in (
        ({"at": (origin - timedelta(days=3)).isoformat()}, 404),
        ({"at": "2026-01-01T00:00:00"}, 422),
        ({"metric": "nonsense"}, 422),
    ):
        assert filled.client.get("/v1/forecasts", params=query).status_code == status


def test_the_risk_of_a_server_has_its_past(filled: Running) -> None:
    name = name_of(filled)
    found = filled.get(f"/v1/servers/{name}/risk", hours=3)
    origins = [datetime.fromisoformat(point["origin"]) for point in found["past"]]
    assert origins == sorted(set(origins))
    assert origins[-1] >= datetime.fromisoformat(found["origin"])
    last = next(point for point in found["past"] if point["origin"] == found["origin"])
    assert {key: found["now"][key] for key in ("level", "score", "p_8h", "metric", "source")} == {
        key: last[key] for key in ("level", "score", "p_8h", "metric", "source")
    }
    table = filled.client.get(f"/v1/servers/{name}/risk", params={"hours": 3}, headers={"Accept": CSV})
    assert len(pacsv.read_csv(io.BytesIO(table.content))) >= len(origins)
    assert filled.client.get("/v1/servers/nobody/risk").status_code == 404


def test_every_answer_about_forecasts_names_its_model(filled: Running) -> None:
    model = {key: filled.get("/v1/status")["model"][key] for key in ("run", "digest")}
    name = name_of(filled)
    for path in ("/v1/fleet", f"/v1/servers/{name}/forecast", f"/v1/servers/{name}/risk", "/v1/forecasts"):
        assert filled.get(path)["model"] == model


def receive(filled: Running, count: int, after: int | None = None) -> list[dict[str, Any]]:
    address = filled.address.replace("http", "ws") + "/v1/stream" + ("" if after is None else f"?after={after}")
    with connect_socket(address, additional_headers=bearer(filled.keys["read"])) as stream:
        return [json.loads(stream.recv(timeout=90)) for _ in range(count)]


def test_a_client_of_the_stream_goes_on_after_a_break_and_misses_nothing(filled: Running) -> None:
    first = receive(filled, 1)[0]
    wait_for(lambda: receive(filled, 1)[0]["seq"] >= first["seq"] + 2, "two more cycles")
    missed = receive(filled, 3, after=first["seq"])
    assert [one["previous"] for one in missed] == [first["seq"], *(one["seq"] for one in missed[:2])]
    (whole,) = receive(filled, 1, after=first["seq"] - 5000)
    assert whole["previous"] is None
    assert len(whole["changes"]) == whole["summary"]["servers"]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_keeps_what_its_openapi_document_says(filled: Running, mode: GenerationMode) -> None:
    """Requests that the document allows and such that it does not: no answer, status or header that it does not have.

    Two checks are left out. Rules between two fields (an end after its start) cannot be in the document, so that a 422
    is no broken word. And what is not in it is not always refused: unknown query parameters are ignored, bad rows of
    samples go to the quarantine.
    """
    document = schemathesis.openapi.from_url(f"{filled.address}/openapi.json")
    document.config.update(base_url=filled.address)
    document = document.exclude(path="/api/v1/write")  # snappy and protobuf, with tests of its own
    operations = [result.ok() for result in document.get_all_operations()]
    assert len(operations) > 20
    failures = []
    for operation in operations:
        try:
            strategy = operation.as_strategy(mode)
            held_to_its_word(strategy, filled.keys["all"])
        except (Unsatisfiable, SkipTest):
            continue  # nothing can be wrong about a request without parameters
        except BaseException as error:  # exception groups of assertions too
            failures.append(f"{operation.label}: {error} {getattr(error, 'exceptions', '')}")
    assert not failures, "\n\n".join(failures)


def held_to_its_word(strategy: Any, key: str) -> None:
    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(case=strategy)
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=bearer(key), timeout=40, excluded_checks=LOOSE)

    check()


def test_a_client_of_the_stream_that_reads_nothing_is_let_go(filled: Running) -> None:
    """Through Serve's proxy the service does not see what a client has taken; the proxy's pings go unanswered."""
    url = httpx.URL(filled.address)
    with socket.create_connection((url.host, url.port)) as connection:
        (key,) = bearer(filled.keys["read"]).values()
        lines = ["GET /v1/stream HTTP/1.1", f"Host: {url.host}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {b64encode(bytes(16)).decode()}"]
        connection.sendall("\r\n".join([*lines, f"Authorization: {key}", "", ""]).encode())
        assert connection.recv(12) == b"HTTP/1.1 101"
        ended = select.poll()
        ended.register(connection, select.POLLRDHUP)
        assert ended.poll(1000 * LET_GO_S), "the connection is still open"
