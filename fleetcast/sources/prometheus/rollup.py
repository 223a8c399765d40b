"""Raw samples of node_exporter to a step of the contract's metrics, as their PromQL has it."""

from __future__ import annotations

import json
from collections.abc import Collection

import numpy as np
import pandas as pd
import pyarrow as pa

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.sources.prometheus import write
from fleetcast.sources.prometheus.relabel import Relabeller

STEP_MS = 1000 * STEP_SECONDS
_WORDS = pa.array([], pa.string())
_SERIES = ["host", "name", "part"]


def roll_up_raw(raw: pa.Table, cell: int, hosts: Collection[str], relabeller: Relabeller) -> pa.Table:
    """The cell [cell, cell + 300 s) of these hosts: server, profile, timestamp and metrics (NaN where unknown).

    Counters become their increase by the time between the last sample before the cell (up to a step older) and the
    last in it; a smaller value than before is a counter that began again at 0. Gauges become their mean.
    """
    frame = raw.select(write.RAW.names).to_pandas()
    begin = 1000 * cell
    frame = frame[(frame["ms"] >= begin - STEP_MS) & (frame["ms"] < begin + STEP_MS) & frame["host"].isin(hosts)]
    frame = frame.drop_duplicates([*_SERIES, "ms"], keep="last").sort_values([*_SERIES, "ms"], kind="stable")
    inside = frame["ms"] >= begin
    if not inside.any():
        return pa.table({"server": _WORDS, "profile": _WORDS, "timestamp": pa.array([], TIMESTAMP)})
    counted = frame["name"].isin(write.COUNTERS)
    gauges = frame[inside & ~counted].groupby(_SERIES)["value"].mean()
    means = {name: found for name, found in pd.concat([_rates(frame[counted], begin), gauges]).groupby(level="name")}
    metrics = pd.DataFrame(_metrics(means, cell + STEP_SECONDS)).dropna(how="all")
    nodes = frame[frame["name"] == write.UNAME].drop_duplicates("host", keep="last").set_index("host")["part"]
    rows = []
    for host, values in metrics.iterrows():
        labels = json.loads(str(host))
        if str(host) in nodes.index:
            labels.setdefault("nodename", nodes[str(host)])
        named = relabeller.host(labels)
        if named is not None:
            rows.append((named, values))
    columns = {
        "server": pa.array([named.server for named, _ in rows], pa.string()),
        "profile": pa.array([named.profile for named, _ in rows], pa.string()),
        "timestamp": pa.array([cell] * len(rows), pa.int64()).cast(TIMESTAMP),
    }
    for name in METRIC_NAMES:
        if name in metrics.columns:
            columns[name] = pa.array([float(values[name]) for _, values in rows], pa.float64())
    return pa.table(columns)


def _rates(counters: pd.DataFrame, begin: int) -> pd.Series[float]:
    """Increase a second by series, over the intervals that end in the cell."""
    grouped = counters.groupby(_SERIES)
    steps, spans = grouped["value"].diff(), grouped["ms"].diff()
    frame = counters.assign(increase=steps.where(steps >= 0, counters["value"]), span=spans / 1000)
    frame = frame[(frame["ms"] >= begin) & (frame["span"] > 0)]
    sums = frame.groupby(_SERIES)[["increase", "span"]].sum()
    return sums["increase"] / sums["span"]


def _metrics(found: dict[str, pd.Series[float]], end: int) -> dict[str, pd.Series[float]]:
    """The metrics by host, from the means and rates of the series."""
    nothing = pd.Series([], dtype=float, index=pd.MultiIndex.from_arrays([[], [], []], names=_SERIES))

    def series(name: str) -> pd.Series[float]:
        return found.get(name, nothing).droplevel("name").astype(float)

    def by_host(name: str) -> pd.Series[float]:
        return series(name).groupby(level="host").mean()

    cpu = series(write.CPU)
    modes = pd.Series(cpu.index.get_level_values("part"), index=cpu.index, dtype=str).str.split("|").str[-1]
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
