"""Samples a second that the service acknowledges, durable, by Arrow and by JSON, on two cores.

Ours is the service's own ingress and history on Ray Serve: keys, the contract, the quarantine, replaced rows, one
transaction a group. The peer is what one writes first: FastAPI on uvicorn that inserts the same bodies into SQLite
(WAL, synchronous=FULL) and checks nothing. Clients post from threads of one process that shares the cores. The rows
are counted in the database afterwards. `ours`, `peer` and `ratio` are those of Arrow; `json_...` those of JSON.
`restart_s` is how long a new history takes until it has the posted fleet at hand.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa

from benchmarks._report import finish, is_quick
from fleetcast.clock import STEP_SECONDS, ClockSpec
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.runtime import connect, prepare_environment
from fleetcast.settings import RaySettings, ServiceSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from fleetcast.store.samples import read_samples

ARROW = "application/vnd.apache.arrow.stream"
KEPT_STEPS = 2028
CLIENTS = 4
NOW = datetime(2026, 1, 12, 10, 2, tzinfo=UTC)
NEWEST = int(NOW.timestamp()) // STEP_SECONDS * STEP_SECONDS - STEP_SECONDS

PEER = """
import io, json, sqlite3, sys
import pyarrow as pa, uvicorn
from fastapi import FastAPI, Request

names = json.loads(sys.argv[3])
database = sqlite3.connect(sys.argv[1], check_same_thread=False, isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
columns = ", ".join(f"{name} REAL" for name in names)
database.execute(f"CREATE TABLE samples (server TEXT, timestamp TEXT, {columns}, PRIMARY KEY (server, timestamp))")
insert = f"INSERT OR REPLACE INTO samples VALUES ({', '.join('?' * (len(names) + 2))})"
app = FastAPI()

@app.post("/v1/samples")
async def samples(request: Request):
    body = await request.body()
    if request.headers["content-type"] == "application/json":
        rows = json.loads(body)["samples"]
        values = [(row["server"], row["timestamp"], *(row.get(name) for name in names)) for row in rows]
    else:
        table = pa.ipc.open_stream(body).read_all()
        stamps = table["timestamp"].cast(pa.string())
        series = [table[name].to_pylist() for name in names]
        values = list(zip(table["server"].to_pylist(), stamps.to_pylist(), *series))
    database.execute("BEGIN IMMEDIATE")
    database.executemany(insert, values)
    database.execute("COMMIT")
    return {"accepted": len(values)}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


@dataclass(frozen=True)
class Load:
    """`servers` x `steps` rows, `rows` in a request, posted `rounds` times in each form."""

    servers: int
    steps: int
    rows: int
    rounds: int


@dataclass(frozen=True)
class Side:
    """A running service: where, with which headers, and how to count the rows that it holds."""

    address: str
    headers: dict[str, str]
    count: Callable[[], int]


def main() -> None:
    quick = is_quick(__doc__)
    load = Load(50, 2, 50, 1) if quick else Load(2000, 50, 2000, 3)
    prepare_environment(RaySettings(auth_mode="disabled"))
    with tempfile.TemporaryDirectory(prefix="fleetcast-ingest-") as folder:
        database = f"sqlite:///{folder}/fleetcast.db"
        with our_service(database, NOW, stored) as ours:
            arrow, text = measured(ours, load)
            restart = restarted(database)
        with peer_service(Path(folder)) as peer:
            peer_arrow, peer_text = measured(peer, load)
    best, of_peer = statistics.median(arrow), statistics.median(peer_arrow)
    ours_json, peer_json = statistics.median(text), statistics.median(peer_text)
    result: dict[str, object] = {
        "benchmark": "serve_ingest",
        "ours": best,
        "peer": of_peer,
        "peer_name": "FastAPI + uvicorn + SQLite insert, nothing checked",
        "ratio": best / of_peer,
        "unit": "rows/s acknowledged and durable",
        "limit": {"ours": {"at_least": 20_000}, "json_ours": {"at_least": 5_000}},
        "threads": CLIENTS,
        "rounds": load.rounds,
        "spread": {"ours": [min(arrow), max(arrow)], "peer": [min(peer_arrow), max(peer_arrow)]},
        "json_ours": ours_json,
        "json_peer": peer_json,
        "json_ratio": ours_json / peer_json,
        "rows_a_round": load.servers * load.steps,
        "rows_a_request": load.rows,
        "restart_s": restart,
    }
    finish(result, quick)


def measured(side: Side, load: Load) -> tuple[list[float], list[float]]:
    """Rows a second of each round, by Arrow and by JSON; every round has rows that were not there before."""
    rates: dict[str, list[float]] = {ARROW: [], "application/json": []}
    block, posted = 0, 0
    for _ in range(load.rounds):
        for kind, found in rates.items():
            bodies = list(requests(load, block, kind))
            block += load.steps
            started = time.perf_counter()
            posted += post(side, bodies, kind)
            found.append(load.servers * load.steps / (time.perf_counter() - started))
    held = side.count()
    if held != posted:
        raise SystemExit(f"{posted} rows were acknowledged, {held} are there")
    return rates[ARROW], rates["application/json"]


def requests(load: Load, block: int, kind: str) -> Iterator[bytes]:
    rng = np.random.default_rng(block)
    for step in range(load.steps):
        moment = NEWEST - STEP_SECONDS * (block + step)
        for begin in range(0, load.servers, load.rows):
            names = [f"ppweb{number:05d}" for number in range(begin, min(begin + load.rows, load.servers))]
            values = {name: rng.random(len(names)).round(6) for name in METRIC_NAMES}
            stamps = pa.array(np.full(len(names), moment), pa.int64()).cast(pa.timestamp("s", "UTC"))
            table = pa.table({"server": names, "timestamp": stamps, **values})
            yield in_arrow(table) if kind == ARROW else in_json(table)


def in_arrow(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def in_json(table: pa.Table) -> bytes:
    rows = [{**row, "timestamp": row["timestamp"].isoformat()} for row in table.to_pylist()]
    return json.dumps({"samples": rows}).encode()


def post(side: Side, bodies: list[bytes], kind: str) -> int:
    """Post all bodies from several threads; returns the rows acknowledged."""
    waiting, accepted, lock = iter(bodies), [], threading.Lock()

    def work() -> None:
        headers = {**side.headers, "Content-Type": kind}
        with httpx.Client(base_url=side.address, headers=headers, timeout=60.0, trust_env=False) as client:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                answer = client.post("/v1/samples", content=body)
                answer.raise_for_status()
                accepted.append(answer.json()["accepted"])

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(accepted)


@contextmanager
def our_service(database: str, now: datetime, count: Callable[[str], int]) -> Iterator[Side]:
    """The service's ingress and history at a time that stands still; `count` counts what a database holds."""
    import ray  # noqa: PLC0415  # reads its authentication mode when it is imported
    from ray import serve  # noqa: PLC0415

    from serve_app.app import build_intake  # noqa: PLC0415
    from serve_app.arguments import AppArgs  # noqa: PLC0415

    port = free_port()
    store = open_store(database)
    with store.session() as session:
        key = create_key(session, "bench", ["write"], datetime.now(UTC))
    clock = ClockSpec(origin=now, anchor=time.time(), speed=1e-6)
    args = AppArgs(bundle="", database=database, clock=clock, service=ServiceSettings(port=port, ingress_replicas=1))
    connect(RaySettings(num_cpus=2), log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 60})
        serve.run(build_intake(args, KEPT_STEPS, "UTC"), name="ingest", route_prefix="/")
        yield Side(f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}, lambda: count(database))
        serve.shutdown()
    finally:
        ray.shutdown()


def stored(database: str) -> int:
    store = open_store(database)
    with store.reading() as session:
        return sum(table.num_rows for table in read_samples(session, 0))


def restarted(database: str) -> float:
    from serve_app.arguments import AppArgs  # noqa: PLC0415
    from serve_app.history import History  # noqa: PLC0415

    async def load() -> float:
        clock = ClockSpec(origin=NOW, anchor=time.time(), speed=1e-6)
        started = time.perf_counter()
        History(AppArgs(bundle="", database=database, clock=clock), "UTC", KEPT_STEPS)
        return time.perf_counter() - started

    return asyncio.run(load())


@contextmanager
def peer_service(folder: Path) -> Iterator[Side]:
    port, database = free_port(), folder / "peer.db"
    command = [sys.executable, "-c", PEER, str(database), str(port), json.dumps(METRIC_NAMES)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        wait_for(port)
        yield Side(f"http://127.0.0.1:{port}", {}, lambda: counted(database))
    finally:
        process.terminate()
        process.wait()


def counted(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM samples").fetchone()
    return int(rows)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("the peer did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
