"""`POST /v1/forecast` under load, beside the bare forecaster, plain FastAPI and a model that does nothing.

`python -m benchmarks.serve_demand [--quick]`. A window is a server's 24 h of four metrics, sent as an Arrow stream and
answered as one; the network is the reference one with the weights that it starts with, one process and one thread on
every side. Figures are windows/s of clients that ask as soon as they are answered, medians of interleaved rounds:

- `ours`: 64 windows a request from 4 clients, through Serve; `peer`: `Forecaster.forecast` of 64 windows in memory;
  `plain`: the same requests to the same forecaster behind FastAPI and uvicorn, without keys, contract or batching.
- `single`: one window a request from 64 clients through Serve; `single_nothing`: the same application with a forecaster
  that answers at once with zeros; `single_plain`: FastAPI again.
- `p50_ms`, `p99_ms`: time until the answer of single windows that come at half of `single`'s rate.

Clients are threads of one process, which shares the two cores with the service. With `RAY_SERVE_ENABLE_HA_PROXY=1` in
the environment HAProxy stands before Serve in place of Ray's own proxy; `proxy` says which it was.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from benchmarks._report import finish, is_quick
from benchmarks.serve_cycle import reference_bundle
from benchmarks.serve_ingest import ARROW, free_port, in_arrow
from benchmarks.serve_ingest import wait_for as wait_for_port
from fleetcast.clock import ClockSpec
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.runtime import connect, prepare_environment
from fleetcast.settings import RaySettings, ServiceSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key

ORIGIN = datetime(2026, 1, 12, 10, tzinfo=UTC)
STEPS, KEPT_STEPS = 288, 4 * 288
TOGETHER, MANY_CLIENTS, FEW_CLIENTS = 64, 64, 4
HELD_SINGLES = 16

PLAIN = """
import asyncio, io, sys, time
from datetime import datetime
import pyarrow as pa, uvicorn
from fastapi import FastAPI, Request, Response
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.heap import keep_freed_memory
from fleetcast.windows.arrays import arrays_from_table
from serve_app.windows import Window, forecast_windows
from benchmarks.serve_ingest import in_arrow

keep_freed_memory()
model, origin = Forecaster.load(sys.argv[1]), datetime.fromisoformat(sys.argv[3])
app, one = FastAPI(), asyncio.Lock()

@app.post("/v1/forecast")
async def forecast(request: Request):
    table = pa.ipc.open_stream(await request.body()).read_all()
    async with one:
        window = Window(arrays_from_table(table, end=origin), origin, time.time() + 60)
        (found,) = await asyncio.to_thread(forecast_windows, model, [window])
    return Response(in_arrow(found.forecast.to_table()), media_type="application/vnd.apache.arrow.stream")

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


@dataclass(frozen=True)
class Side:
    """A running service: where, and with which headers."""

    address: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Length:
    """Seconds of each measurement, and how many rounds of them."""

    seconds: float
    rounds: int


class Nothing:
    """A forecaster that answers at once, for the time that everything else takes."""

    async def windows(self, window: Any) -> Any:
        """A forecast of zeros for the window's servers."""
        from fleetcast.forecast.table import MODEL, ForecastArrays  # noqa: PLC0415
        from serve_app.schemas import ModelName  # noqa: PLC0415
        from serve_app.windows import WindowForecast  # noqa: PLC0415

        names = window.fleet.servers
        quantiles = np.zeros((len(names), 1, 96, 7), np.float32)
        found = ForecastArrays(
            names, ("web_api",) * len(names), ("cpu_utilization",), (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98),
            window.origin, quantiles, (MODEL,) * len(names), ("",) * len(names),
        )  # fmt: skip
        return WindowForecast(found, ModelName(run="nothing", digest="0" * 64))


def main() -> None:
    quick = is_quick(__doc__)
    length = Length(2.0, 1) if quick else Length(15.0, 3)
    prepare_environment(RaySettings(auth_mode="disabled"))
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        bundle = reference_bundle(folder / "model")
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(1, _prepare, (str(bundle),)))
        plain = stack.enter_context(plain_service(bundle))
        ours, nothing = stack.enter_context(services(folder, bundle))
        rates = measured(pool, {"ours": ours, "plain": plain, "nothing": nothing}, length)
        medians = {name: statistics.median(some) for name, some in rates.items()}
        waits = sorted(at_rate(ours, medians["single"] / 2, length.seconds * length.rounds))
    result: dict[str, object] = {
        "benchmark": "serve_demand",
        **medians,
        "peer_name": "Forecaster.forecast of 64 windows in memory",
        "ratio": medians["ours"] / medians["peer"],
        "single_ratio": medians["single"] / medians["single_nothing"],
        "plain_ratio": medians["ours"] / medians["plain"],
        "proxy": "HAProxy" if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" else "Ray Serve's",
        "unit": "windows/s",
        "limit": {"ratio": {"at_least": 0.85}, "single_ratio": {"at_least": 0.7}},
        "threads": 1,
        "rounds": length.rounds,
        "spread": {name: [min(some), max(some)] for name, some in rates.items()},
        "p50_ms": 1000 * waits[len(waits) // 2],
        "p99_ms": 1000 * waits[int(len(waits) * 0.99)],
    }
    finish(result, quick)


def measured(pool: Pool, sides: dict[str, Side], length: Length) -> dict[str, list[float]]:
    """Windows a second of every measurement, round by round; the first round warms up."""
    many, singles = [body(range(TOGETHER))], [body([number]) for number in range(HELD_SINGLES)]
    asked: dict[str, Callable[[], float]] = {
        "ours": lambda: saturated(sides["ours"], many, TOGETHER, FEW_CLIENTS, length.seconds),
        "peer": lambda: float(pool.apply(_bare, (length.seconds,))),
        "plain": lambda: saturated(sides["plain"], many, TOGETHER, FEW_CLIENTS, length.seconds),
        "single": lambda: saturated(sides["ours"], singles, 1, MANY_CLIENTS, length.seconds),
        "single_nothing": lambda: saturated(sides["nothing"], singles, 1, MANY_CLIENTS, length.seconds),
        "single_plain": lambda: saturated(sides["plain"], singles, 1, MANY_CLIENTS, length.seconds),
    }
    rates: dict[str, list[float]] = {name: [] for name in asked}
    for number in range(length.rounds + 1):
        for name, one in asked.items():
            rate = one()
            if number:
                rates[name].append(rate)
    return rates


def body(numbers: Any) -> bytes:
    """Samples of these servers as an Arrow stream."""
    numbers = list(numbers)
    seconds = int(ORIGIN.timestamp()) - 300 * np.arange(STEPS - 1, -1, -1, dtype=np.int64)
    generator = np.random.default_rng(numbers[0])
    names = pa.array(np.repeat([f"ppweb{number:05d}" for number in numbers], STEPS))
    stamps = pa.array(np.tile(seconds, len(numbers))).cast(TIMESTAMP)
    metrics = ("cpu_utilization", "memory_used", "filesystem_used", "load1_per_core")
    values = {name: generator.random(len(names)).astype(np.float32) for name in metrics}
    profiles = pa.array(["web_api"] * len(names))
    return in_arrow(pa.table({"server": names, "profile": profiles, "timestamp": stamps, **values}))


def saturated(side: Side, bodies: list[bytes], windows: int, clients: int, seconds: float) -> float:
    """Windows a second of clients that ask again as soon as they are answered."""
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    with (
        httpx.Client(
            base_url=side.address, headers=side.headers, timeout=60.0, trust_env=False, limits=limits
        ) as client,
        ThreadPoolExecutor(clients) as pool,
    ):
        begun = time.perf_counter()

        def work(number: int) -> int:
            done = 0
            while not done or time.perf_counter() < begun + seconds:
                content = bodies[(number + done) % len(bodies)]
                client.post("/v1/forecast", content=content, params=query()).raise_for_status()
                done += 1
            return done

        done = sum(pool.map(work, range(clients)))
        return done * windows / (time.perf_counter() - begun)


def at_rate(side: Side, rate: float, seconds: float) -> list[float]:
    """Seconds from when a call was due until its answer, calls being due at a steady rate."""
    bodies = [body([number]) for number in range(HELD_SINGLES)]

    async def run() -> list[float]:
        async with httpx.AsyncClient(
            base_url=side.address, headers=side.headers, timeout=60.0, trust_env=False
        ) as client:
            begun, waits, calls = time.perf_counter(), [], []

            async def call(number: int) -> None:
                found = await client.post("/v1/forecast", content=bodies[number % len(bodies)], params=query())
                found.raise_for_status()
                waits.append(time.perf_counter() - begun - number / rate)

            for number in range(int(rate * seconds)):
                await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
                calls.append(asyncio.create_task(call(number)))
            await asyncio.gather(*calls)
            return waits

    return asyncio.run(run())


def query() -> dict[str, str]:
    return {"origin": ORIGIN.isoformat()}


_HELD: dict[str, Any] = {}


def _prepare(bundle: str) -> None:
    from fleetcast.forecast.forecaster import Forecaster  # noqa: PLC0415
    from fleetcast.heap import keep_freed_memory  # noqa: PLC0415
    from fleetcast.windows.arrays import arrays_from_table  # noqa: PLC0415

    keep_freed_memory()
    table = pa.ipc.open_stream(body(range(TOGETHER))).read_all()
    model = Forecaster.load(bundle)
    start = ORIGIN - timedelta(minutes=5) * (model.history_steps - 1)
    _HELD.update(model=model, fleet=arrays_from_table(table, start, ORIGIN))


def _bare(seconds: float) -> float:
    begun, done = time.perf_counter(), 0
    while not done or time.perf_counter() < begun + seconds:
        _HELD["model"].forecast(_HELD["fleet"], ORIGIN)
        done += TOGETHER
    return done / (time.perf_counter() - begun)


@contextmanager
def plain_service(bundle: Path) -> Iterator[Side]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", PLAIN, str(bundle), str(port), ORIGIN.isoformat()])
    try:
        wait_for_port(port)
        yield Side(f"http://127.0.0.1:{port}", {"Content-Type": ARROW})
    finally:
        process.terminate()
        process.wait()


@contextmanager
def services(folder: Path, bundle: Path) -> Iterator[tuple[Side, Side]]:
    """The service's ingress with its forecaster, and with one that does nothing."""
    import ray  # noqa: PLC0415  # reads its authentication mode when it is imported
    from ray import serve  # noqa: PLC0415

    from serve_app.app import _forecaster, _light, _single  # noqa: PLC0415
    from serve_app.arguments import AppArgs  # noqa: PLC0415
    from serve_app.history import History  # noqa: PLC0415
    from serve_app.ingress import Ingress  # noqa: PLC0415

    database, port = f"sqlite:///{folder}/fleetcast.db", free_port()
    store = open_store(database)
    with store.session() as session:
        key = create_key(session, "bench", ["read"], datetime.now(UTC))
    store.close()
    clock = ClockSpec(origin=ORIGIN, anchor=time.time(), speed=1e-6)
    settings = ServiceSettings(
        port=port, ingress_replicas=1, forecaster_max_replicas=1, forecaster_queue=256, requests_per_second=1e6
    )
    args = AppArgs(bundle=str(bundle), database=database, clock=clock, service=settings)
    connect(RaySettings(num_cpus=2), log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 60})
        for name, model in (
            ("ours", _forecaster(args, KEPT_STEPS)),
            ("nothing", _single("forecaster", Nothing).bind()),
        ):
            history = _single("history", History).bind(args, "UTC", KEPT_STEPS)
            ingress = _light("ingress", 1)(Ingress).bind(args, KEPT_STEPS, history, history, model, history, history)
            serve.run(ingress, name=name, route_prefix=f"/{name}")
        headers = {"Authorization": f"Bearer {key}", "Content-Type": ARROW, "Accept": ARROW}
        address = f"http://127.0.0.1:{port}"
        yield Side(f"{address}/ours", headers), Side(f"{address}/nothing", headers)
        serve.shutdown()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
