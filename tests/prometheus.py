"""Debian's Prometheus and node_exporter, started by a test on loopback and ended by their process ids."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Prometheus:
    """One Prometheus with its folder; it can be killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            *("prometheus", f"--config.file={self.folder / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={self.folder / 'data'}", "--storage.tsdb.retention.time=90d"),
            *(f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"),
        ]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for_http(f"{self.url}/-/ready", self.process)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def query(self, expression: str, at: float) -> list[tuple[dict[str, str], float]]:
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression, "time": at}, trust_env=False)
        return [(one["metric"], float(one["value"][1])) for one in answer.json()["data"]["result"]]


@contextmanager
def prometheus(folder: Path, config: str = "global: {}\n", blocks: Iterable[str] = ()) -> Iterator[Prometheus]:
    """A Prometheus with this configuration, and with blocks of OpenMetrics lines that it has before it starts."""
    (folder / "prometheus.yml").write_text(config)
    add_blocks(folder, blocks)
    found = Prometheus(folder, free_port())
    found.start()
    try:
        yield found
    finally:
        if found.process is not None and found.process.poll() is None:
            found.process.terminate()
            found.process.wait(30)


def add_blocks(folder: Path, lines: Iterable[str]) -> None:
    """Make blocks of OpenMetrics lines (`name{labels} value seconds`) with promtool; Prometheus must be down."""
    text = folder / "history.txt"
    with text.open("w") as file:
        written = [file.write(f"{line}\n") for line in lines]
        file.write("# EOF\n")
    if written:
        command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", str(text), str(folder / "data")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def node_exporter(folder: Path) -> Iterator[int]:
    """node_exporter with its TCP states; yields its port."""
    port = free_port()
    command = ["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}", "--collector.tcpstat"]
    with (folder / "exporter.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for_http(f"http://127.0.0.1:{port}/metrics", process)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def wait_for_http(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the process of {address} has ended"
        try:
            if httpx.get(address, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{address} did not answer within {PATIENCE_S:g} s")


def host_lines(instance: str, first: int, last: int, every: int = 60, boots: Iterable[int] = ()) -> Iterator[str]:
    """node_exporter's series of a host from `first` to `last` (Unix seconds), whose truth is `busy` and `memory`.

    Two cores; a counter starts again from 0 at each of the `boots`.
    """
    label, since = f'instance="{instance}",job="node"', first
    restarts = sorted(boots)
    idle = user = received = 0.0
    rows = []
    for second in range(first, last + 1, every):
        if restarts and second >= restarts[0]:
            since, idle, user, received = restarts.pop(0), 0.0, 0.0, 0.0
        share = busy(second - 1)
        idle, user, received = idle + every * (1 - share), user + every * share, received + every * 1000.0
        values = {
            **{f'node_cpu_seconds_total{{{label},cpu="{core}",mode="idle"}}': idle for core in "01"},
            **{f'node_cpu_seconds_total{{{label},cpu="{core}",mode="user"}}': user for core in "01"},
            f"node_memory_MemAvailable_bytes{{{label}}}": 8e9 * (1 - memory(second - 1)),
            f"node_memory_MemTotal_bytes{{{label}}}": 8e9,
            f'node_network_receive_bytes_total{{{label},device="eth0"}}': received,
            f'node_network_receive_bytes_total{{{label},device="lo"}}': 5 * received,
            f"node_load1{{{label}}}": 2 * share,
            f"node_boot_time_seconds{{{label}}}": since,
            f'node_uname_info{{{label},nodename="{instance.partition(":")[0]}.example"}}': 1.0,
        }
        rows.append((second, values))
    for name in rows[0][1]:
        yield from (f"{name} {values[name]:.6f} {second}" for second, values in rows)


def busy(second: int) -> float:
    """CPU use of the host in the cell of this second."""
    return 0.1 + 0.05 * (second // 300 % 12)


def memory(second: int) -> float:
    """Memory use in the cell of this second."""
    return 0.3 + 0.01 * (second // 300 % 7)
