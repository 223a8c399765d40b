"""Seconds from the start of the service's process until it serves a fleet that its database knows.

`python -m benchmarks.serve_restart [--quick] [--model BUNDLE]`. `python -m serve_app` is started on a database with
24 h of 10,000 servers, with a Ray of its own, as after a crash or an upgrade: `ours` is how long it takes until the API
answers with a server's whole history, `ready_s` until the whole fleet is forecast. The peer is Ray and Ray Serve with
an application that does nothing, from the start of its process to its first answer: no Serve application is quicker.
Rounds of both alternate. Without `--model` the reference network with the weights that it starts with.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx

from benchmarks._report import finish, parser_of
from benchmarks.serve_cycle import BEGIN, Load, fill, reference_bundle
from benchmarks.serve_ingest import free_port
from fleetcast.store.engine import open_store

PATIENCE_S, STOP_S = 300.0, 90.0
DAY_STEPS = 288
LIMIT_S = 30.0
NOTHING = """
import sys, time
import ray
from fastapi import FastAPI
from ray import serve
app = FastAPI()
@serve.deployment
@serve.ingress(app)
class Nothing:
    @app.get("/")
    def nothing(self): return {}
ray.init(num_cpus=2, include_dashboard=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
serve.run(Nothing.bind())
time.sleep(3600)
"""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="a bundle; by default the reference network, not trained")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # both end what was started; a shell's background job ignores Ctrl-C
        signal.signal(number, signal.default_int_handler)
    load, rounds = (Load(24, 1, 20.0), 1) if options.quick else (Load(10_000, 3, 90.0), 3)
    served: list[float] = []
    ready: list[float] = []
    nothing: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.model or reference_bundle(folder / "model")
        key = fill(open_store(database_of(folder)), load, DAY_STEPS)
        for _ in range(rounds):
            begun, port = time.perf_counter(), free_port()
            with started([sys.executable, "-c", NOTHING, str(port)], folder) as process:
                nothing.append(until(process, begun, partial(answers, port)))
            begun, port = time.perf_counter(), free_port()
            with started(service(folder, bundle, port), folder) as process, client_of(port, key) as client:
                served.append(until(process, begun, partial(knows, client, load.servers)))
                ready.append(until(process, begun, partial(is_forecast, client, load.servers)))
    mine, theirs = statistics.median(served), statistics.median(nothing)
    result: dict[str, object] = {
        "benchmark": "serve_restart",
        "ours": mine,
        "peer": theirs,
        "peer_name": "Ray and Ray Serve with an application that does nothing",
        "ratio": mine / theirs,
        "ready_s": statistics.median(ready),
        "unit": f"s until {load.servers} servers are served",
        "limit": {"ours": {"at_most": LIMIT_S}},
        "threads": 2,
        "rounds": rounds,
        "spread": {"ours": [min(served), max(served)], "peer": [min(nothing), max(nothing)]},
    }
    finish(result, options.quick)


def database_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'fleetcast.db'}"


def service(folder: Path, bundle: Path, port: int) -> list[str]:
    """The service's command, on a clock that begins where the samples end."""
    return [
        *(sys.executable, "-m", "serve_app", "--model", str(bundle), "--home", str(folder / "home")),
        *("--database", database_of(folder), "--port", str(port)),
        *("--clock-origin", (BEGIN + timedelta(seconds=310)).isoformat(), "--speed", "1"),
    ]


@contextmanager
def started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process while the context is open; Ctrl-C ends it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETCAST_")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            yield process
        except SystemExit as error:
            raise SystemExit(f"{error}:\n{(folder / 'log').read_text()}") from None
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)


@contextmanager
def client_of(port: int, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0, trust_env=False) as client:
        yield client


def until(process: subprocess.Popen[bytes], begun: float, holds: Callable[[], bool]) -> float:
    """Seconds from `begun` until that holds; it cannot once the process has ended."""
    while time.perf_counter() - begun < PATIENCE_S and process.poll() is None:
        try:
            if holds():
                return time.perf_counter() - begun
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("it did not come about")


def answers(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200


def knows(client: httpx.Client, servers: int) -> bool:
    """The last server's whole day is there."""
    last = client.get(f"/v1/servers/ppweb{servers - 1:05d}/history", params={"hours": 24})
    if last.status_code != 200:
        return False
    return sum(value is not None for value in last.json()["metrics"]["cpu_utilization"]) >= DAY_STEPS - 2


def is_forecast(client: httpx.Client, servers: int) -> bool:
    cycle = client.get("/v1/status").raise_for_status().json()["cycle"]
    return bool(cycle) and cycle["model"] == servers


if __name__ == "__main__":
    main()
