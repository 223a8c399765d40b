"""Raw samples of node_exporter to a step of the contract's metrics, as their PromQL has it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.sources.prometheus import write
from fleetcast.sources.prometheus.raw import STEP_MS, Coded
from fleetcast.sources.prometheus.relabel import Host, Relabeller

_WORDS = pa.array([], pa.string())
_SERIES = ["host", "name", "part"]


def roll_up_raw(raw: pa.Table, cell: int, hosts: Collection[str], relabeller: Relabeller) -> pa.Table:
    """The cell [cell, cell + 300 s) of these hosts: server, profile, timestamp and metrics (NaN where unknown).

    Counters become their increase by the time between the last sample before the cell (up to a step older) and the
    last in it; a smaller value than before is a counter that began again at 0. Gauges become their mean. A server that
    is sent under several sets of labels (by two Prometheus, say) has the mean of each metric. `raw` is as `raw.joined`
    makes it.
    """
    begin, coded = 1000 * cell, Coded.of(raw)
    coded = coded.take((coded.ms >= begin - STEP_MS) & (coded.ms < begin + STEP_MS) & coded.of_hosts(hosts))
    coded = coded.take(coded.in_order())
    again = (coded.series[1:] == coded.series[:-1]) & (coded.ms[1:] == coded.ms[:-1])
    coded = coded.take(~np.append(again, np.zeros(min(1, len(coded.ms)), bool)))  # of what came twice the last
    if not (coded.ms >= begin).any():
        return nothing_rolled()
    means = {str(name): found for name, found in _values(coded, begin).groupby(level="name", observed=True)}
    metrics = pd.DataFrame(_metrics(means, cell + STEP_SECONDS)).dropna(how="all")
    named = _named(metrics.index.tolist(), _nodenames(coded), relabeller)
    metrics = metrics[[host is not None for host in named]]
    profiles = {host.server: host.profile for host in named if host is not None}
    servers = [host.server for host in named if host is not None]
    metrics = metrics.groupby(np.array(servers, dtype=object), sort=True).mean()  # of several sets of labels
    columns = {
        "server": pa.array(metrics.index.tolist(), pa.string()),
        "profile": pa.array([profiles[server] for server in metrics.index], pa.string()),
        "timestamp": pa.array([cell] * len(metrics), pa.int64()).cast(TIMESTAMP),
    }
    return pa.table(columns | {name: pa.array(metrics[name].to_numpy(), pa.float64()) for name in metrics.columns})


def _named(hosts: Sequence[str], nodes: Mapping[str, str], relabeller: Relabeller) -> list[Host | None]:
    """What the rules make of each host's labels."""
    found = []
    for host in hosts:
        labels = json.loads(host)
        if host in nodes:
            labels.setdefault("nodename", nodes[host])
        found.append(relabeller.host(labels))
    return found


def nothing_rolled() -> pa.Table:
    """What a cell without samples gives."""
    return pa.table({"server": _WORDS, "profile": _WORDS, "timestamp": pa.array([], TIMESTAMP)})


def _values(coded: Coded, begin: int) -> pd.Series[float]:
    """Rate a second of each counter, over the intervals that end in the cell, and mean of each gauge, by series.

    `coded` is in order, and no time comes twice.
    """
    first = np.append(True, coded.series[1:] != coded.series[:-1])
    rank, starts = np.cumsum(first) - 1, np.flatnonzero(first)
    host, name, part = coded.parts_of(coded.series[starts])
    counts = np.array([word in write.COUNTERS for word in coded.words["name"]], dtype=bool)[name]
    inside = coded.ms >= begin
    step, span = np.diff(coded.value, prepend=0.0), np.diff(coded.ms, prepend=0) / 1000
    increase = np.where(step >= 0, step, coded.value)
    counted = counts[rank] & inside & ~first
    gauged = ~counts[rank] & inside
    upper = np.where(counted, increase, np.where(gauged, coded.value, 0.0))
    lower = np.where(counted, span, np.where(gauged, 1.0, 0.0))
    totals = np.bincount(rank, upper), np.bincount(rank, lower)
    known = totals[1] > 0
    codes: list[Any] = [host[known], name[known], part[known]]
    index = pd.MultiIndex(levels=[coded.words[column] for column in _SERIES], codes=codes, names=_SERIES)
    return pd.Series(totals[0][known] / totals[1][known], index=index)


def _nodenames(coded: Coded) -> dict[str, str]:
    """The node name of each host that has told it, the latest by series."""
    host, name, part = coded.parts_of(coded.series)
    told = np.array([word == write.UNAME for word in coded.words["name"]], dtype=bool)[name]
    hosts, parts = coded.words["host"], coded.words["part"]
    return {hosts[one]: parts[other] for one, other in zip(host[told].tolist(), part[told].tolist(), strict=True)}


def _metrics(found: dict[str, pd.Series[float]], end: int) -> dict[str, pd.Series[float]]:
    """The metrics by host, from the means and rates of the series."""
    nothing = pd.Series([], dtype=float, index=pd.MultiIndex.from_arrays([[], [], []], names=_SERIES))

    def series(name: str) -> pd.Series[float]:
        return found.get(name, nothing).droplevel("name").astype(float)

    def by_host(name: str) -> pd.Series[float]:
        return series(name).groupby(level="host").mean()

    cpu = series(write.CPU)
    parts = cpu.index.get_level_values("part")
    modes = parts.map({part: part.rpartition("|")[2] for part in parts.unique()})
    cores = cpu[modes == "idle"].groupby(level="host").size()

    def share(*wanted: str) -> pd.Series[float]:
        return cpu[modes.isin(wanted)].groupby(level="host").sum() / cores

    files = 1 - series(write.FILES_FREE) / series(write.FILES_SIZE).replace(0, np.nan)
    metrics = {
        "cpu_utilization": 1 - share("idle"),
        "cpu_user": share("user", "nice"),
        "cpu_system": share("system", "irq", "softirq"),
        "cpu_iowait": share("iowait"),
        "memory_used": 1 - by_host(write.AVAILABLE) / by_host(write.TOTAL),
        "swap_used": 1 - by_host(write.SWAP_FREE) / by_host(write.SWAP_TOTAL).replace(0, np.nan),
        "filesystem_used": files.groupby(level="host").max(),
        "disk_io_time": series(write.DISK).groupby(level="host").max(),
        "network_receive_bytes": series(write.RECEIVE).groupby(level="host").sum(),
        "network_transmit_bytes": series(write.TRANSMIT).groupby(level="host").sum(),
        "tcp_close_wait": by_host(write.TCP),
        "load1_per_core": by_host(write.LOAD) / cores,
        "major_page_faults": by_host(write.FAULTS),
        "uptime_seconds": end - by_host(write.BOOT),
    }
    return {name: values.clip(lower=0) for name, values in metrics.items() if values.notna().any()}
