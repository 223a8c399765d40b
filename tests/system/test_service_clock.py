"""The whole service under another clock, which is set back, or forward by an hour while Prometheus is away.

Nothing acknowledged is lost, no gap is left, no false `ready` is answered, and forecasts are back. The clock is that of
`tests/faked_clock`; the machine's own stays as it is.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.prometheus import Prometheus, add_blocks, busy, host_lines, prometheus
from tests.system.test_service_process import Running, client_of, fed_by, start, wait_for, wait_for_new_forecasts
from tests.system.witness import SLACK, STEP_S

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

BACK_S = 40  # of the machine's time; the service's runs 60 times as fast
HOUR_S = 3600
FAKED = Path(__file__).parents[1] / "faked_clock"
HOSTS = ("ppweb0001", "ppweb0002")


class FakedClock:
    """How many seconds the clock of a service and of all its processes is ahead of the machine's."""

    def __init__(self, folder: Path, ahead_s: int = 0) -> None:
        self.file = folder / "ahead"
        self.file.touch()
        self.set(ahead_s)

    def set(self, ahead_s: int) -> None:
        self.ahead_s = ahead_s
        with self.file.open("r+b") as file:
            file.write(struct.pack("=q", ahead_s * 10**9))

    @contextmanager
    def service(self, folder: Path, bundle: Path, source: Sequence[str]) -> Iterator[Running]:
        variables = {"PYTHONPATH": str(FAKED), "CLOCK_AHEAD": str(self.file)}
        found = start(folder, bundle, source, **variables)
        try:
            yield found
        finally:
            found.stop()


def test_a_clock_that_is_set_back_loses_nothing_and_forecasts_are_back(
    tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    clock = FakedClock(tmp_path)
    with clock.service(tmp_path, tiny_bundle, fed_by(tiny_dataset)) as running, client_of(running) as client:
        wait_for_new_forecasts(client)
        before = now_of(client)
        moment = datetime.fromtimestamp(int(before.timestamp()) // STEP_S * STEP_S - STEP_S, UTC)
        row = {"server": "ppdb7777", "timestamp": moment.isoformat(), "cpu_utilization": 0.4375}
        assert client.post("/v1/samples", json={"samples": [row]}).json()["accepted"] == 1

        clock.set(-BACK_S)
        wait_for(lambda: now_of(client) < before - timedelta(seconds=BACK_S * 60 / 2), "a clock that was set back")
        wait_for_new_forecasts(client)
        assert history_of(client, "ppdb7777") == {moment: 0.4375}
        wait_for(lambda: now_of(client) > before, "the time at which the clock was set back")
        wait_for_new_forecasts(client)
        assert history_of(client, "ppdb7777") == {moment: 0.4375}


def test_an_hour_without_prometheus_leaves_no_gap_and_forecasts_are_back_within_two_steps(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    gone = int(time.time()) // STEP_S * STEP_S - HOUR_S
    span = (gone - 48 * HOUR_S, gone + 2 * HOUR_S)
    lines = [line for host in HOSTS for made in (host_lines, disk_lines) for line in made(f"{host}:9100", *span)]
    is_late = [int(line.rpartition(" ")[2]) > gone for line in lines]
    source = tmp_path / "prometheus"
    source.mkdir()
    clock = FakedClock(tmp_path, -HOUR_S - 2 * STEP_S)
    early = (line for line, late in zip(lines, is_late, strict=True) if not late)
    with (
        prometheus(source, blocks=early) as found,
        clock.service(tmp_path, tiny_bundle, ["--prometheus", found.url]) as running,
        client_of(running) as client,
    ):
        wait_for(lambda: read_up_to(client, gone - 3 * STEP_S), "samples of Prometheus")
        step_until_forecast(clock, client)
        found.kill()
        clock.set(0)
        wait_for(lambda: source_of(client)["error"], "a Prometheus that is away")
        wait_for(lambda: not is_ready(client), "a service that is not ready")
        come_back(found, [line for line, late in zip(lines, is_late, strict=True) if late])
        wait_for(lambda: read_up_to(client, gone + HOUR_S - 3 * STEP_S), "the samples of the hour")
        step_until_forecast(clock, client)
        for host in HOSTS:
            known = history_of(client, host)
            for at in range(gone - HOUR_S, gone + HOUR_S - 3 * STEP_S, STEP_S):
                assert known[datetime.fromtimestamp(at, UTC)] == pytest.approx(busy(at), abs=1e-3)


def disk_lines(instance: str, first: int, last: int) -> Iterator[str]:
    """What else the model forecasts: a disk half full that nothing waits for."""
    label = f'instance="{instance}",job="node"'
    disk = f'{label},device="/dev/sda1",fstype="ext4",mountpoint="/"'
    series = {f"node_filesystem_size_bytes{{{disk}}}": 2e11, f"node_filesystem_avail_bytes{{{disk}}}": 1e11}
    series |= {f'node_cpu_seconds_total{{{label},cpu="{core}",mode="iowait"}}': 0.0 for core in "01"}
    for name, value in series.items():
        yield from (f"{name} {value:.6f} {second}" for second in range(first, last + 1, 60))


def come_back(source: Prometheus, lines: list[str]) -> None:
    """Prometheus is there again and has what was scraped meanwhile."""
    add_blocks(source.folder, lines)
    source.start()


def step_until_forecast(clock: FakedClock, client: httpx.Client) -> None:
    """Every server is forecast by the model at one of the next two steps of the service's clock."""
    for _ in range(2):
        before = status_of(client)["cycle"]
        last = before["number"] if before else 0
        clock.set(clock.ahead_s + STEP_S)
        cycle: Any = wait_for(lambda last=last: later_cycle(client, last), "the next cycle")
        if cycle["model"] == len(HOSTS):
            assert (cycle["fallback"], cycle["none"], cycle["error"]) == (0, 0, None)
            assert is_ready(client)
            return
    raise AssertionError(f"no forecast by the model: {cycle}")


def later_cycle(client: httpx.Client, number: int) -> Any:
    cycle = status_of(client)["cycle"]
    return cycle if cycle and cycle["number"] > number else None


def status_of(client: httpx.Client) -> Any:
    return client.get("/v1/status").json()


def source_of(client: httpx.Client) -> Any:
    return status_of(client)["sources"][0]


def read_up_to(client: httpx.Client, second: int) -> bool:
    """Whether all that Prometheus has up to then is there."""
    read = source_of(client)["read"]
    return read is not None and datetime.fromisoformat(read).timestamp() >= second


def is_ready(client: httpx.Client) -> bool:
    return bool(status_of(client)["ready"])


def history_of(client: httpx.Client, server: str) -> dict[datetime, float]:
    """What is known of a server's processors."""
    found = client.get(f"/v1/servers/{server}/history", params={"hours": 80}).json()
    pairs = zip(found["timestamps"], found["metrics"]["cpu_utilization"], strict=True)
    return {datetime.fromisoformat(moment): value for moment, value in pairs if value is not None}


def now_of(client: httpx.Client) -> datetime:
    """The service's clock; where it says that it is ready, its forecasts are of now."""
    status = status_of(client)
    now = datetime.fromisoformat(status["clock"]["now"])
    if status["ready"]:
        assert abs(now - datetime.fromisoformat(status["cycle"]["origin"])) < SLACK
    return now
