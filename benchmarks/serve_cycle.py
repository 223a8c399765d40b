"""Seconds of a whole forecast cycle of the service, beside the bare forecaster's for the same servers, on two cores.

`python -m benchmarks.serve_cycle [--quick] [--model BUNDLE]`. A cycle is what `GET /v1/status` says it took: history,
forecasts by two replicas, risks, Parquet and database, alerts, remediation. The peer is `Forecaster.forecast` on the
same samples, already in memory, in two processes of half the servers each. Rounds of both alternate; a round in which
the next cycle began before the peer had ended does not count. Without `--model` the reference network with weights as
they are before training. `on_top_s` is what the cycle takes beyond the peer.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from benchmarks._report import finish, parser_of
from benchmarks.serve_ingest import ARROW, free_port, in_arrow
from fleetcast.clock import STEP_SECONDS, ClockSpec
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.runtime import connect, prepare_environment
from fleetcast.settings import RaySettings, ServiceSettings
from fleetcast.store.engine import Store, open_store
from fleetcast.store.keys import create_key
from fleetcast.store.samples import append_samples

BEGIN = datetime(2026, 1, 12, 10, tzinfo=UTC)
PATIENCE_S = 900.0
ROWS = 20_000


@dataclass(frozen=True)
class Load:
    """How many servers and rounds, and the wall-clock seconds of a step."""

    servers: int
    rounds: int
    step_s: float


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="a bundle; by default the reference network, not trained")
    options = parser.parse_args()
    load = Load(24, 1, 20.0) if options.quick else Load(10_000, 5, 90.0)
    prepare_environment(RaySettings(auth_mode="disabled"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = options.model or reference_bundle(folder / "model")
        with workers(bundle, load) as pools, service(folder, bundle, load) as client:
            ours, peer = measured(client, pools, load)
    mine, theirs = statistics.median(ours), statistics.median(peer)
    result: dict[str, object] = {
        "benchmark": "serve_cycle",
        "ours": mine,
        "peer": theirs,
        "peer_name": "Forecaster.forecast in two processes, samples in memory, nothing kept",
        "ratio": mine / theirs,
        "unit": f"s a cycle of {load.servers} servers",
        "limit": {"on_top_s": {"at_most": 10.0}},
        "on_top_s": mine - theirs,
        "threads": 2,
        "rounds": len(ours),
        "spread": {"ours": [min(ours), max(ours)], "peer": [min(peer), max(peer)]},
    }
    finish(result, options.quick)


def measured(client: httpx.Client, pools: list[Pool], load: Load) -> tuple[list[float], list[float]]:
    """Seconds of the cycles and of the bare forecaster; the first round warms both."""
    ours: list[float] = []
    peer: list[float] = []
    cycle = wait_for_cycle(client, 0)
    bare(pools)
    while len(ours) < load.rounds:
        origin = datetime.fromisoformat(cycle["origin"])
        post(client, samples(load, origin + timedelta(seconds=STEP_SECONDS), 1))
        cycle = wait_for_cycle(client, cycle["number"])
        if cycle["error"] or cycle["model"] != load.servers:
            raise SystemExit(f"a cycle did not forecast every server by the model: {cycle}")
        seconds = bare(pools)
        if status(client)["number"] == cycle["number"]:
            ours.append(cycle["seconds"])
            peer.append(seconds)
    kept = client.get("/v1/forecasts", params={"limit": 1}).json()
    if kept["total"] != load.servers:
        raise SystemExit(f"{kept['total']} servers are stored, expected {load.servers}")
    return ours, peer


def status(client: httpx.Client) -> dict[str, Any]:
    """The last cycle; number 0 before the first."""
    found: dict[str, Any] | None = client.get("/v1/status").raise_for_status().json()["cycle"]
    return found or {"number": 0}


def wait_for_cycle(client: httpx.Client, after: int) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        cycle = status(client)
        if cycle["number"] > after:
            return cycle
        time.sleep(0.2)
    raise SystemExit(f"no cycle within {PATIENCE_S:g} s")


def post(client: httpx.Client, table: pa.Table) -> None:
    for first in range(0, table.num_rows, ROWS):
        body = in_arrow(table.slice(first, ROWS))
        client.post("/v1/samples", content=body, headers={"Content-Type": ARROW}).raise_for_status()


def samples(load: Load, last: datetime, steps: int) -> pa.Table:
    """A calm fleet: every metric goes up and down by the day, a little differently on each server."""
    seconds = int(last.timestamp()) - STEP_SECONDS * np.arange(steps - 1, -1, -1, dtype=np.int64)
    phase = np.random.default_rng(0).random(load.servers)
    course = 0.25 + 0.1 * np.sin(2 * np.pi * (seconds[None, :] / 86_400 + phase[:, None]))
    values = {name: course.astype(np.float32).ravel() for name in METRIC_NAMES}
    names = [f"ppweb{number:05d}" for number in range(load.servers)]
    stamps = pa.array(np.tile(seconds, load.servers)).cast(TIMESTAMP)
    servers = pa.DictionaryArray.from_arrays(np.repeat(np.arange(load.servers), steps), names).cast(pa.string())
    profiles = pa.array(np.full(load.servers * steps, "web_api"))
    return pa.table({"server": servers, "profile": profiles, "timestamp": stamps, **values})


def reference_bundle(path: Path) -> Path:
    """The network of the training and inference benchmarks, with the weights that it starts with."""
    from benchmarks._stock import SPEC, dataset_of, network_of, quiet  # noqa: PLC0415  # torch
    from benchmarks._stock import samples as frame_of  # noqa: PLC0415
    from benchmarks.infer import bundle_of  # noqa: PLC0415

    quiet()
    dataset = dataset_of(frame_of(4, SPEC.context + SPEC.horizon))
    bundle_of(network_of(dataset)).save(path)
    return path


@contextmanager
def workers(bundle: Path, load: Load) -> Iterator[list[Pool]]:
    """Two processes with the forecaster and half of the fleet each."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        yield [
            stack.enter_context(context.Pool(1, initializer=_prepare, initargs=(half, str(bundle), load)))
            for half in range(2)
        ]


_HELD: dict[str, Any] = {}


def _prepare(half: int, bundle: str, load: Load) -> None:
    from fleetcast.forecast.forecaster import Forecaster  # noqa: PLC0415
    from fleetcast.windows.arrays import arrays_from_table  # noqa: PLC0415

    model = Forecaster.load(bundle)
    fleet = arrays_from_table(samples(load, BEGIN, model.history_steps))
    rows = np.arange(len(fleet.servers))[half::2]
    _HELD.update(model=model, fleet=fleet.of_servers(rows))


def _forecast() -> None:
    _HELD["model"].forecast(_HELD["fleet"], BEGIN)


def bare(pools: list[Pool]) -> float:
    """Seconds until both halves are forecast."""
    begun = time.perf_counter()
    for waiting in [pool.apply_async(_forecast) for pool in pools]:
        waiting.get()
    return time.perf_counter() - begun


@contextmanager
def service(folder: Path, bundle: Path, load: Load) -> Iterator[httpx.Client]:
    """The service with the fleet's history, on a clock whose step takes `step_s`."""
    import ray  # noqa: PLC0415  # reads its authentication mode when it is imported
    from ray import serve  # noqa: PLC0415

    from fleetcast.model.manifest import load_manifest  # noqa: PLC0415
    from serve_app.app import build  # noqa: PLC0415
    from serve_app.arguments import AppArgs  # noqa: PLC0415
    from serve_app.span import kept_steps  # noqa: PLC0415

    database, port = f"sqlite:///{folder}/fleetcast.db", free_port()
    store = open_store(database)
    settings = ServiceSettings(
        port=port, ingress_replicas=1, forecaster_min_replicas=2, forecaster_max_replicas=2, history_hours=1.0
    )
    key = fill(store, load, kept_steps(settings, load_manifest(bundle)))
    connect(RaySettings(num_cpus=2), log_to_driver=False)
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 60})
        clock = ClockSpec(origin=BEGIN + timedelta(seconds=310), anchor=time.time(), speed=STEP_SECONDS / load.step_s)
        args = AppArgs(
            bundle=str(bundle), database=database, forecasts=str(folder / "forecasts"), clock=clock, service=settings
        )
        serve.run(build(args), name="fleetcast", route_prefix="/")
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60.0, trust_env=False
        ) as client:
            yield client
        serve.shutdown()
    finally:
        ray.shutdown()


def fill(store: Store, load: Load, steps: int) -> str:
    """Store so many steps of the fleet; returns an API key."""
    with store.session() as session:
        append_samples(session, samples(load, BEGIN, steps))
    with store.session() as session:
        return create_key(session, "bench", ["read", "write"], datetime.now(UTC))


if __name__ == "__main__":
    main()
