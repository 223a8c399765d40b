"""The live source and the real Prometheus: every step once, whatever is killed and for however long."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from fleetcast.settings import PrometheusSettings, ServiceSettings
from fleetcast.sources.prometheus.client import PrometheusClient
from fleetcast.sources.prometheus.pull import Pull
from fleetcast.store.marks import set_mark
from serve_app.arguments import AppArgs
from serve_app.history import History
from tests.prometheus import Prometheus, add_blocks, busy, host_lines, node_exporter, prometheus
from tests.waiting import wait_for

PATIENCE_S = 45.0
HOST = "ppweb0001:9100"


@pytest.fixture
def past() -> int:
    """Three hours ago, on the grid."""
    return int(time.time()) // 300 * 300 - 3 * 3600


@pytest.fixture
def running(tmp_path: Path, past: int) -> Iterator[Prometheus]:
    with prometheus(tmp_path, blocks=host_lines(HOST, past, past + 3600)) as found:
        yield found


def args(tmp_path: Path, url: str) -> AppArgs:
    return AppArgs(
        bundle="",
        database=f"sqlite:///{tmp_path / 'home' / 'fleetcast.db'}",
        service=ServiceSettings(),
        prometheus=PrometheusSettings(url=url, backfill_hours=4, timeout_s=5),
    )


async def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not come about")


async def cells(history: History, past: int) -> dict[int, float]:
    found = await history.of_server("ppweb0001", 6)
    if found is None:
        return {}
    pairs = zip(found.timestamps, found.metrics["cpu_utilization"], strict=True)
    return {int(moment.timestamp()) - past: value for moment, value in pairs if value is not None}


def test_a_prometheus_that_was_gone_is_read_on_without_a_gap_and_nothing_is_doubled(
    running: Prometheus, tmp_path: Path, past: int
) -> None:
    async def scene() -> None:
        history = History(args(tmp_path, running.url), "UTC", 100)
        puller = history._puller
        assert puller is not None
        await eventually(lambda: puller.info().read is not None and len(history._ring))
        expected = {300 * step: pytest.approx(busy(past + 300 * step), abs=1e-4) for step in range(12)}
        assert {at: value for at, value in (await cells(history, past)).items() if at in expected} == expected

        # Prometheus gone: the mark of a later restart is where it was.
        await asyncio.to_thread(running.kill)
        with history._store.session() as session:
            set_mark(session, "prometheus", past + 3600 - 300)
        history._puller._loop.cancel()  # type: ignore[union-attr]

        again = History(args(tmp_path, running.url), "UTC", 100)
        assert again._puller is not None
        await eventually(lambda: again._puller is not None and again._puller.info().error)
        assert "does not answer" in ((await again.info()).sources[0].error or "")
        kept = await cells(again, past)
        assert {at: value for at, value in kept.items() if at in expected} == expected

        # It comes back and has what was scraped meanwhile.
        await asyncio.to_thread(add_blocks, running.folder, list(host_lines(HOST, past + 3600, past + 7200)))
        await asyncio.to_thread(running.start)
        await eventually(lambda: again._puller is not None and again._puller.info().error is None)
        await eventually(lambda: again._ring.newest >= past + 7200 - 300)
        whole = await cells(again, past)
        for step in range(1, 23):
            if step != 12:  # its samples are in two blocks, made by two counters
                assert whole[300 * step] == pytest.approx(busy(past + 300 * step), abs=1e-4)
        again._puller._loop.cancel()  # type: ignore[union-attr]

    asyncio.run(scene())


@contextmanager
def close_wait() -> Iterator[None]:
    """A connection that its peer has closed: node_exporter tells of no state that no connection is in."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
        listening.accept()[0].close()
        yield


def test_every_metric_of_a_scraped_node_exporter_arrives(tmp_path: Path) -> None:
    with node_exporter(tmp_path) as exporter, close_wait():
        config = f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{exporter}"], labels: {{team: shop, rack: r7}}}}]
"""
        with prometheus(tmp_path, config) as source:
            begun = time.time()
            wait_for(lambda: time.time() > begun + 8 and time.time() % 300 > 8, "some scrapes of one step", 60.0)
            settings = PrometheusSettings(url=source.url)
            pull = Pull(PrometheusClient(settings), settings)
            cell = int(time.time()) // 300 * 300
            (row,) = pull.read(cell, cell).to_pylist()
        text = httpx.get(f"http://127.0.0.1:{exporter}/metrics", trust_env=False).text
    plain = r"^(node_memory_\w+|node_boot_time_seconds) (\S+)$"
    said = {name: float(value) for name, value in re.findall(plain, text, re.MULTILINE)}
    there = set(re.findall(r"^(node_\w+?)[{ ]", text, re.MULTILINE))
    expected = {name for name, query in pull.queries.items() if set(re.findall(r"node_\w+", query)) <= there}
    if not said["node_memory_SwapTotal_bytes"]:
        expected -= {"swap_used"}
    found = {name for name in pull.queries if row.get(name) is not None and not math.isnan(row[name])}
    assert found == expected
    assert found >= {"cpu_utilization", "cpu_iowait", "memory_used", "network_receive_bytes", "tcp_close_wait"}
    assert row["server"] == "127.0.0.1"
    assert pull.taken_labels() == {"127.0.0.1": {"team": "shop"}}
    assert pull.taken_labels() == {}
    used = 1 - said["node_memory_MemAvailable_bytes"] / said["node_memory_MemTotal_bytes"]
    assert row["memory_used"] == pytest.approx(used, abs=0.05)
    assert row["uptime_seconds"] == pytest.approx(cell + 300 - said["node_boot_time_seconds"], abs=2)
    assert 0 <= row["cpu_iowait"] <= row["cpu_utilization"] <= 1
