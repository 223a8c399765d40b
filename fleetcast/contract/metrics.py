"""The metrics of the contract: units, ranges, and what the field calls them.

Ratios are 0-1, sizes bytes, times seconds. A value outside its hard range is quarantined; outside its soft range it is
kept and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleetcast.errors import ContractError


@dataclass(frozen=True)
class Metric:
    """One metric: `hard` and `soft` are inclusive ranges in `unit` (UCUM; "1" is a ratio)."""

    name: str
    unit: str
    hard: tuple[float, float]
    soft: tuple[float, float]
    description: str
    prometheus: str
    opentelemetry: str
    dtype: str = "float32"

    @property
    def is_ratio(self) -> bool:
        """Whether the metric is a ratio of a capacity."""
        return self.unit == "1"


def _ratio(name: str, description: str, prometheus: str, otel: str, hard_high: float = 1.05) -> Metric:
    return Metric(name, "1", (0.0, hard_high), (0.0, 1.0), description, prometheus, otel)


def _cpu_mode(modes: str) -> str:
    return f'sum by (instance) (rate(node_cpu_seconds_total{{mode=~"{modes}"}}[5m])) / count by (instance) (node_cpu_seconds_total{{mode="idle"}})'  # noqa: E501


def _network(direction: str) -> str:
    return f'sum by (instance) (rate(node_network_{direction}_bytes_total{{device!="lo"}}[5m]))'


METRICS: tuple[Metric, ...] = (
    _ratio(
        "cpu_utilization",
        "share of the nominal CPU capacity in use; a VM can burst above 1",
        '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))',
        "system.cpu.utilization",
        hard_high=4.0,
    ),
    _ratio("cpu_user", "CPU time in user mode, nice included", _cpu_mode("user|nice"), "system.cpu.utilization"),
    _ratio(
        "cpu_system",
        "CPU time in the kernel, interrupts included",
        _cpu_mode("system|irq|softirq"),
        "system.cpu.utilization",
    ),
    _ratio("cpu_iowait", "CPU time waiting for I/O", _cpu_mode("iowait"), "system.cpu.utilization"),
    _ratio(
        "memory_used",
        "memory that is not available to new work",
        "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes",
        "system.memory.utilization",
    ),
    _ratio(
        "swap_used",
        "swap space in use",
        "1 - node_memory_SwapFree_bytes / node_memory_SwapTotal_bytes",
        "system.paging.utilization",
    ),
    _ratio(
        "filesystem_used",
        "the fullest real filesystem",
        'max by (instance) (1 - node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs"} / node_filesystem_size_bytes)',  # noqa: E501
        "system.filesystem.utilization",
    ),
    _ratio(
        "disk_io_time",
        "the busiest disk's share of time with I/O in flight",
        "max by (instance) (rate(node_disk_io_time_seconds_total[5m]))",
        "system.disk.io_time",
    ),
    Metric(
        "network_receive_bytes",
        "By/s",
        (0.0, 1e12),
        (0.0, 5e10),
        "bytes received a second, loopback excluded",
        _network("receive"),
        "system.network.io",
    ),
    Metric(
        "network_transmit_bytes",
        "By/s",
        (0.0, 1e12),
        (0.0, 5e10),
        "bytes sent a second, loopback excluded",
        _network("transmit"),
        "system.network.io",
    ),
    Metric(
        "tcp_close_wait",
        "{connection}",
        (0.0, 1e7),
        (0.0, 1e5),
        "TCP connections in close-wait",
        'node_tcp_connection_states{state="close_wait"}',
        "system.network.connection.count",
    ),
    Metric(
        "load1_per_core",
        "{process}/{core}",
        (0.0, 1e4),
        (0.0, 50.0),
        "one-minute load average divided by the number of cores",
        'node_load1 / on (instance) count by (instance) (node_cpu_seconds_total{mode="idle"})',
        "none",
    ),
    Metric(
        "major_page_faults",
        "{fault}/s",
        (0.0, 1e8),
        (0.0, 1e5),
        "page faults a second that needed the disk",
        "rate(node_vmstat_pgmajfault[5m])",
        "system.paging.faults",
    ),
    Metric(
        "uptime_seconds",
        "s",
        (0.0, 3.2e9),
        (0.0, 3.2e8),
        "seconds since the last boot",
        "time() - node_boot_time_seconds",
        "system.uptime",
        dtype="float64",
    ),
)

METRIC_NAMES = tuple(metric.name for metric in METRICS)
DEFAULT_TARGETS = ("cpu_utilization", "memory_used", "cpu_iowait", "filesystem_used", "load1_per_core")
_BY_NAME = {metric.name: metric for metric in METRICS}


def metric(name: str) -> Metric:
    """The metric of this name. Raises `ContractError` with the known names."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ContractError(f"unknown metric {name!r}; the contract has {', '.join(METRIC_NAMES)}") from None


def in_contract_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names without repeats in the contract's order. Raises `ContractError` on an unknown one."""
    wanted = {metric(name).name for name in names}
    return tuple(name for name in METRIC_NAMES if name in wanted)


def default_targets(present: Iterable[str]) -> tuple[str, ...]:
    """The fleet model's targets as far as the dataset has them; raises `ContractError` when it has none."""
    here = set(present)
    found = tuple(name for name in DEFAULT_TARGETS if name in here)
    if not found:
        raise ContractError(f"no forecast target: the data has {sorted(here)}, needed one of {list(DEFAULT_TARGETS)}")
    return found
