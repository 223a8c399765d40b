"""Raw samples a second that the service takes by Prometheus' remote write, durable, on two cores, and the roll-up.

`python -m benchmarks.serve_remote_write [--quick]`: 3,000 hosts of 8 cores, 72 series of node_exporter each that become
metrics, scraped every 15 s, 2,000 samples a request, two steps of them: the first is rolled up while the second comes.
Ours is the service's own ingress and history on Ray Serve; the peer is Debian's Prometheus as a remote-write receiver,
which gets the same requests and does not promise that they are on the disk. Clients post from threads of one process
that shares the cores. The samples are counted on both sides. `needed` is what such a fleet sends a second; `roll_up_s`
is how long the second step of all hosts takes once it is over, and `reload_s` how long a history that was killed takes
until it has its open samples again, both of one process.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from benchmarks._report import finish, is_quick
from benchmarks.serve_ingest import CLIENTS, Side, free_port, our_service, wait_for
from fleetcast.clock import ClockSpec
from fleetcast.runtime import prepare_environment
from fleetcast.settings import PrometheusSettings, RaySettings
from fleetcast.sources.prometheus import write
from fleetcast.sources.prometheus.relabel import Relabeller
from fleetcast.store.engine import open_store
from fleetcast.store.raw import load_raw

BEGIN = datetime(2026, 1, 12, 10, 0, tzinfo=UTC)  # of the two steps that the samples lie in
NOW, OVER = BEGIN + timedelta(seconds=590), BEGIN + timedelta(seconds=621)
SCRAPE_S, ROOM, CORES = 15, 2000, 8
HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
MODES = ("idle", "user", "nice", "system", "irq", "softirq", "iowait")


@dataclass(frozen=True)
class Load:
    """`scrapes` of all `hosts` in each of `rounds`."""

    hosts: int
    scrapes: int
    rounds: int


def main() -> None:
    quick = is_quick(__doc__)
    load = Load(10, 10, 4) if quick else Load(3000, 10, 4)
    prepare_environment(RaySettings(auth_mode="disabled"))
    sent = load.hosts * len(series_of(0, 0)) * load.scrapes * load.rounds
    with tempfile.TemporaryDirectory(prefix="fleetcast-remote-write-") as folder:
        database = f"sqlite:///{folder}/fleetcast.db"
        with our_service(database, NOW, stored) as side:
            ours = measured(side, load, sent // 2)  # of the first step the last sample of each series may be left
        reload_s, roll_up_s = rolled(database, load)
        with prometheus(Path(folder)) as side:
            peer = measured(side, load, sent)
    best, of_peer, needed = (
        statistics.median(ours),
        statistics.median(peer),
        load.hosts * len(series_of(0, 0)) / SCRAPE_S,
    )
    result: dict[str, object] = {
        "benchmark": "serve_remote_write",
        "ours": best,
        "peer": of_peer,
        "peer_name": "Debian's Prometheus as a remote-write receiver",
        "ratio": best / of_peer,
        "unit": "samples/s acknowledged",
        "limit": {"ours": {"at_least": needed}},
        "threads": CLIENTS,
        "rounds": load.rounds,
        "spread": {"ours": [min(ours), max(ours)], "peer": [min(peer), max(peer)]},
        "needed": needed,
        "hosts": load.hosts,
        "samples": sent,
        "roll_up_s": roll_up_s,
        "reload_s": reload_s,
    }
    finish(result, quick)


def series_of(host: int, scrape: int) -> list[tuple[dict[str, str], float]]:
    """Labels and value of each series of a host."""
    at = float(scrape * SCRAPE_S)
    found = [
        ({"__name__": write.CPU, "cpu": str(core), "mode": mode}, 1000 * host + at / len(MODES))
        for core in range(CORES)
        for mode in MODES
    ]
    found += [({"__name__": name, "device": "sda"}, 0.1 * at) for name in (write.DISK, write.RECEIVE, write.TRANSMIT)]
    sizes = {write.AVAILABLE: 4e9, write.TOTAL: 8e9, write.SWAP_FREE: 1e9, write.SWAP_TOTAL: 1e9, write.LOAD: 2.0}
    sizes |= {write.FAULTS: 3 * at, write.BOOT: BEGIN.timestamp() - 9e5}
    found += [({"__name__": name}, value) for name, value in sizes.items()]
    for place in ("/", "/data"):
        labels = {"device": f"/dev/{place}", "fstype": "ext4", "mountpoint": place}
        found += [({"__name__": write.FILES_FREE, **labels}, 4e10), ({"__name__": write.FILES_SIZE, **labels}, 1e11)]
    found.append(({"__name__": write.TCP, "state": "close_wait"}, 3.0))
    return [*found, ({"__name__": write.UNAME, "nodename": f"ppweb{host:05d}"}, 1.0)]


def requests(load: Load, scrape: int) -> Iterator[bytes]:
    """One scrape of all hosts, each at a moment of its own."""
    kinds, begin = write.messages(), 1000 * int(BEGIN.timestamp())
    request, held = kinds["WriteRequest"](), 0
    for host in range(load.hosts):
        instance = {"instance": f"ppweb{host:05d}:9100", "job": "node"}
        for labels, value in series_of(host, scrape):
            series = request.timeseries.add()
            for name, text in sorted({**labels, **instance}.items()):
                series.labels.append(kinds["Label"](name=name, value=text).SerializeToString())
            series.samples.add(value=value, timestamp=begin + 1000 * SCRAPE_S * scrape + host % 1000)
            held += 1
            if held == ROOM:
                yield packed(request)
                request, held = kinds["WriteRequest"](), 0
    if held:
        yield packed(request)


def packed(request: Any) -> bytes:
    return bytes(pa.compress(request.SerializeToString(), codec="snappy", asbytes=True))


def measured(side: Side, load: Load, least: int) -> list[float]:
    """Samples a second of each round; scrapes follow each other, as a series' samples must.

    Ends the program when fewer than `least` samples are there afterwards.
    """
    rates = []
    for number in range(load.rounds):
        scrapes = [list(requests(load, number * load.scrapes + one)) for one in range(load.scrapes)]
        started = time.perf_counter()
        for bodies in scrapes:
            post(side, bodies)
        rates.append(load.scrapes * load.hosts * len(series_of(0, 0)) / (time.perf_counter() - started))
    held = side.count()
    if held < least:
        raise SystemExit(f"{least} samples at least should be there, {held} are")
    return rates


def post(side: Side, bodies: list[bytes]) -> None:
    """Post all bodies from several threads."""
    waiting, lock, failures = iter(bodies), threading.Lock(), list[Exception]()

    def work() -> None:
        with httpx.Client(
            base_url=side.address, headers={**side.headers, **HEADERS}, timeout=60.0, trust_env=False
        ) as client:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                try:
                    client.post("/api/v1/write", content=body).raise_for_status()
                except httpx.HTTPError as error:
                    failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"{len(failures)} requests were not taken: {failures[0]}")


def stored(database: str) -> int:
    with open_store(database).reading() as session:
        return sum(table.num_rows for table in load_raw(session))


def rolled(database: str, load: Load) -> tuple[float, float]:
    """Seconds until a new receiver has what was posted, and until the step of all hosts is rolled up."""
    from serve_app.intake import Checked  # noqa: PLC0415
    from serve_app.receiver import Receiver  # noqa: PLC0415

    rows = 0

    async def take(checked: Checked, source: str) -> None:
        nonlocal rows
        rows += checked.table.num_rows

    async def scene() -> tuple[float, float]:
        clock = ClockSpec(origin=OVER, anchor=time.time(), speed=1e-6).build()
        begun = time.perf_counter()
        relabeller = Relabeller(PrometheusSettings().relabel)
        receiver = Receiver(open_store(database), clock, relabeller, timedelta(hours=24), load.hosts, take)
        loaded = time.perf_counter()
        await receiver.roll()
        return loaded - begun, time.perf_counter() - loaded

    found = asyncio.run(scene())
    if rows < load.hosts:
        raise SystemExit(f"{rows} hosts were rolled up, {load.hosts} were sent")
    return found


@contextmanager
def prometheus(folder: Path) -> Iterator[Side]:
    port = free_port()
    (folder / "prometheus.yml").write_text("global: {}\n")
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver", "--log.level=error"]
    process = subprocess.Popen(command)
    address = f"http://127.0.0.1:{port}"

    def count() -> int:
        answer = httpx.get(f"{address}/metrics", trust_env=False).text
        lines = [line for line in answer.splitlines() if line.startswith("prometheus_tsdb_head_samples_appended_total")]
        return sum(int(float(line.split()[-1])) for line in lines if 'type="float"' in line or "type" not in line)

    try:
        wait_for(port)
        yield Side(address, {"X-Prometheus-Remote-Write-Version": "0.1.0"}, count)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
