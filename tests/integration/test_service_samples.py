"""Samples through the API, without a model: both forms, what is refused and where it is found again."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest

from fleetcast.clock import ClockSpec
from fleetcast.settings import ServiceSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

NOW = datetime(2026, 1, 12, 10, 2, tzinfo=UTC)
CELL = datetime(2026, 1, 12, 9, 55, tzinfo=UTC)
STEP = timedelta(seconds=300)
ARROW = "application/vnd.apache.arrow.stream"


@dataclass
class Running:
    client: httpx.Client
    reader: dict[str, str]
    writer: dict[str, str]

    def post(self, content: bytes, kind: str = ARROW) -> httpx.Response:
        return self.client.post("/v1/samples", content=content, headers={"Content-Type": kind})

    def cpu(self, server: str) -> list[float]:
        answer = self.client.get(f"/v1/servers/{server}/history", params={"hours": 24})
        assert answer.status_code == 200, answer.text
        return [value for value in answer.json()["metrics"]["cpu_utilization"] if value is not None]


@pytest.fixture(scope="module")
def running(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from ray import serve

    from serve_app.app import build_intake
    from serve_app.arguments import AppArgs

    database = f"sqlite:///{tmp_path_factory.mktemp('samples') / 'fleetcast.db'}"
    with open_store(database).session() as session:
        keys = {name: create_key(session, name, [name], datetime.now(UTC)) for name in ("read", "write", "admin")}
    bearer = {name: {"Authorization": f"Bearer {key}"} for name, key in keys.items()}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    args = AppArgs(
        bundle="",
        database=database,
        clock=ClockSpec(origin=NOW, anchor=time.time(), speed=1e-6),
        service=ServiceSettings(port=port, ingress_replicas=2, max_rows_per_request=500, max_servers=100),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 30})
    serve.run(build_intake(args, 300, "UTC"), name="samples", route_prefix="/")
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers=bearer["admin"], timeout=40, trust_env=False
    ) as client:
        yield Running(client, bearer["read"], bearer["write"])
    serve.shutdown()


def arrow(servers: list[str], moments: list[datetime], cpu: list[float]) -> bytes:
    stamps = pa.array(moments, pa.timestamp("s", "UTC"))
    table = pa.table({"server": servers, "timestamp": stamps, "cpu_utilization": cpu})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def row(server: str, moment: datetime, cpu: float) -> dict[str, Any]:
    return {"server": server, "timestamp": moment.isoformat(), "cpu_utilization": cpu}


def test_a_batch_counts_once_in_whatever_form_and_a_correction_replaces(running: Running) -> None:
    body = arrow(["web1", "web2"], [CELL, CELL], [0.25, 0.5])
    first, again = running.post(body), running.post(body)
    assert (first.status_code, first.json()["accepted"], first.json()["replaced"]) == (200, 2, 0)
    assert (again.json()["accepted"], again.json()["replaced"]) == (2, 2)
    corrected = running.client.post("/v1/samples", json={"samples": [row("web2", CELL, 0.75)]})
    assert (corrected.json()["accepted"], corrected.json()["replaced"]) == (1, 1)
    assert (running.cpu("web1"), running.cpu("web2")) == ([0.25], [0.75])


def test_rows_out_of_order_and_older_than_what_is_in_memory_count_once_too(running: Running) -> None:
    moments = [CELL - 3 * STEP, CELL, CELL - STEP, CELL - 600 * STEP]
    body = arrow(["late"] * 4, moments, [0.125, 0.5, 0.25, 0.75])
    assert running.post(body).json()["replaced"] == 0
    assert running.post(body).json()["replaced"] == 4
    assert running.cpu("late") == [0.125, 0.25, 0.5]


def test_good_rows_are_kept_and_bad_ones_found_again_in_the_quarantine(running: Running) -> None:
    body = arrow(["good", "ahead", "wild", "odd"], [CELL, CELL + 4 * STEP, CELL, CELL + STEP / 3], [0.5, 0.5, 9.0, 0.5])
    answer = running.post(body)
    assert answer.status_code == 207
    assert answer.json()["accepted"] == 1
    refused = {value["server"]: value["rule"] for value in answer.json()["quarantined"]}
    assert "future" in refused["ahead"]
    assert "hard range" in refused["wild"]
    assert "grid" in refused["odd"]
    page = running.client.get("/v1/quarantine", params={"limit": 2}, headers=running.reader).json()
    rest = running.client.get("/v1/quarantine", params={"before": page["next"]}, headers=running.reader).json()
    found = [*page["items"], *rest["items"]]
    assert {item["server"] for item in found} == {"ahead", "wild", "odd"}
    assert {item["sender"] for item in found} == {"admin"}
    assert (page["total"], rest["next"]) == (3, None)
    wild = running.client.get("/v1/quarantine", params={"server": "wild"}).json()["items"]
    assert [(one["row"], one["column"], one["value"]) for one in wild] == [(2, "cpu_utilization", "9")]


def test_many_writers_at_once_lose_and_double_nothing(running: Running) -> None:
    def write(number: int) -> int:
        moments = [CELL - step * STEP for step in range(20)]
        bodies = [arrow([f"many{number}"] * 20, moments, [0.5] * 20)] * 2
        answers = [running.post(body).json() for body in bodies]
        assert [answer["accepted"] for answer in answers] == [20, 20]
        return sum(answer["accepted"] - answer["replaced"] for answer in answers)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, range(16))) == [20] * 16
    assert all(running.cpu(f"many{number}") == [0.5] * 20 for number in range(16))


def test_servers_beyond_the_limit_are_refused_by_name(running: Running) -> None:
    names = [f"extra{number:03d}" for number in range(120)]
    answer = running.post(arrow(names, [CELL] * 120, [0.5] * 120)).json()
    refused = [value["server"] for value in answer["quarantined"]]
    assert answer["accepted"] + len(refused) == 120
    assert refused == names[answer["accepted"] :]
    assert "max_servers" in answer["quarantined"][0]["rule"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"nonsense", ARROW, 422),
        (b"{}", "application/json", 422),
        (b"[" * 10_000, "application/json", 422),
        (arrow(["a"] * 501, [CELL] * 501, [0.5] * 501), ARROW, 413),
    ],
)
def test_what_is_no_batch_is_refused_whole(running: Running, content: bytes, kind: str, status: int) -> None:
    answer = running.post(content, kind)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "detail"}
    assert "Traceback" not in answer.text


def test_the_scopes_are_write_for_samples_and_read_for_the_quarantine(running: Running) -> None:
    body = arrow(["web1"], [CELL], [0.5])
    denied = running.client.post("/v1/samples", content=body, headers={**running.reader, "Content-Type": ARROW})
    assert denied.status_code == 403
    assert running.client.get("/v1/quarantine", headers=running.writer).status_code == 403
    assert running.client.get("/v1/quarantine", headers=running.reader).status_code == 200
