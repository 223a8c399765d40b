"""From demand and causes to the fourteen metrics of the contract.

Every metric follows from the same few causes: demand drives CPU, network and connections; what waits for disks raises
I/O wait and load together; memory pressure fills swap and makes pages fault.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.simulate.demand import Series, autoregressive, lagged, normal_demand
from fleetcast.simulate.effects import DISK_FULL, MEMORY_FULL, Effects, uptime
from fleetcast.simulate.randomness import normals
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.traits import Column, Traits

NOISES = (
    *("slow", "fast", "burst", "system", "iowait", "disk", "memory", "swap", "faults"),
    *("receive", "transmit", "connections", "load"),
)
WORK_EXTREME, IOWAIT_EXTREME, LOAD_EXTREME = 1.3, 0.65, 6.0
CLOSE_WAIT_EXTREME = 350.0
NETWORK_CAPACITY = 1.18e9  # bytes/s of a 10 Gbit/s interface in practice
PRESSURE_FROM = 0.88  # memory from which pages are swapped


def observe(
    spec: FleetSpec, servers: list[int], traits: Traits, effects: Effects
) -> dict[str, npt.NDArray[np.floating]]:
    """All metrics of the contract by name, each [server, time]; offline steps have values like any other."""
    drawn = normals(spec.seed, servers, spec.steps, len(NOISES))
    noise = dict(zip(NOISES, drawn, strict=True))
    demand = normal_demand(spec, traits, noise["slow"], noise["fast"], noise["burst"]) * effects.demand
    activity = lagged(demand, 0.92)
    memory = _memory(traits, effects, activity, noise["memory"])
    cpu = _cpu(traits, effects, demand, memory, noise)
    metrics: dict[str, npt.NDArray[np.floating]] = {
        **cpu,
        **_swap(traits, memory, demand, noise),
        **_network(traits, effects, demand, noise),
        "memory_used": memory,
        "filesystem_used": _filesystem(traits, effects, activity),
        "uptime_seconds": uptime(effects, traits, spec.steps, STEP_SECONDS),
    }
    return {name: metrics[name] for name in METRIC_NAMES}


def limited(series: Series, knee: Column | float, ceiling: Column | float) -> Series:
    """The series itself up to `knee`; beyond it approaches `ceiling` exponentially and never reaches it."""
    room = np.float32(1) * (ceiling - knee)
    excess = np.maximum(series - knee, 0)
    return np.asarray(np.minimum(series, knee) + room * (1 - np.exp(-excess / room)), dtype=np.float32)


def _memory(traits: Traits, effects: Effects, activity: Series, normal: Series) -> Series:
    course = traits.memory + np.float32(0.05) * (activity - 1) + np.float32(0.01) * autoregressive(normal, 0.97)
    course = limited(course, 0.80, 0.90) * effects.memory
    course += effects.channels["memory"] * (np.float32(MEMORY_FULL) - course)
    return np.asarray(np.clip(course, 0.02, 0.992), np.float32)


def _cpu(
    traits: Traits, effects: Effects, demand: Series, memory: Series, noise: dict[str, Series]
) -> dict[str, Series]:
    """CPU modes, load and disk time. user + system + iowait is the utilisation, and never above 1."""
    user = traits.cpu_user * demand
    system = traits.cpu_system * demand * np.exp(np.float32(0.06) * autoregressive(noise["system"], 0.5))
    iowait = traits.cpu_iowait * demand * np.exp(np.float32(0.25) * autoregressive(noise["iowait"], 0.8))
    iowait = limited(iowait, 0.6 * traits.iowait_critical, 0.8 * traits.iowait_critical)
    wanted = user + system + iowait
    admitted = limited(wanted, 0.70, 0.89) / wanted
    user, system, iowait = user * admitted, system * admitted, iowait * admitted
    normal_work, normal_iowait = user + system, iowait

    user = user + np.square(effects.channels["work"]) * (np.float32(WORK_EXTREME) - user - system)
    system = system + np.square(effects.channels["kernel"]) * (np.float32(WORK_EXTREME) - user - system)
    waiting = np.square(effects.channels["iowait"])
    iowait = iowait + waiting * (np.float32(IOWAIT_EXTREME) - iowait)
    iowait += np.float32(1.2) * np.maximum(memory - np.float32(0.92), 0)
    load = _load(traits, effects, wanted, user + system - normal_work, iowait - normal_iowait, noise["load"])

    running = 1 - np.float32(0.4) * waiting
    user, system = user * running, system * running
    total = user + system + iowait
    squeezed = limited(total, 0.90, 0.995) / total
    user, system, iowait = user * squeezed, system * squeezed, iowait * squeezed
    depth = -np.log1p(-traits.disk_io_time) / traits.cpu_iowait
    jitter = np.exp(np.float32(0.08) * noise["disk"])
    return {
        "cpu_utilization": user + system + iowait,
        "cpu_user": user,
        "cpu_system": system,
        "cpu_iowait": iowait,
        "load1_per_core": load,
        "disk_io_time": 1 - np.exp(-depth * iowait * jitter),
    }


def _load(traits: Traits, effects: Effects, wanted: Series, work: Series, waiting: Series, normal: Series) -> Series:
    """Load per core: runnable tasks with the demand, and queues with the added `work` and `waiting` of incidents."""
    usual = traits.cpu_user + traits.cpu_system + traits.cpu_iowait
    jitter = np.exp(np.float32(0.08) * autoregressive(normal, 0.4))
    load = limited(traits.load * wanted / usual * jitter, 1.6, 2.4)
    load += (np.float32(4) * work + np.float32(8) * waiting) * jitter
    queued = np.square(effects.channels["load"]) * np.maximum(np.float32(LOAD_EXTREME) - load, 0)
    return np.asarray(load + queued, np.float32)


def _swap(traits: Traits, memory: Series, demand: Series, noise: dict[str, Series]) -> dict[str, Series]:
    pressure = np.maximum(memory - np.float32(PRESSURE_FROM), 0)
    usual = traits.swap * np.exp(np.float32(0.2) * autoregressive(noise["swap"], 0.99))
    faults = np.float32(0.8) * demand + np.float32(2.5e4) * np.square(pressure)
    return {
        "swap_used": np.minimum(usual + lagged(pressure, 0.85) * np.float32(4.5), np.float32(0.98)),
        "major_page_faults": faults * np.exp(np.float32(0.3) * noise["faults"]),
    }


def _network(traits: Traits, effects: Effects, demand: Series, noise: dict[str, Series]) -> dict[str, Series]:
    flood = effects.channels["network"]
    connections = traits.close_wait * demand * np.exp(np.float32(0.25) * autoregressive(noise["connections"], 0.5))
    connections = limited(connections, 60.0, 110.0)
    values = {"tcp_close_wait": np.rint(connections + effects.channels["connections"] * np.float32(CLOSE_WAIT_EXTREME))}
    for name, rate in (("receive", traits.receive), ("transmit", traits.transmit)):
        bytes_s = rate * demand * np.exp(np.float32(0.12) * autoregressive(noise[name], 0.5))
        bytes_s = limited(bytes_s, 0.7 * NETWORK_CAPACITY, 0.85 * NETWORK_CAPACITY)
        values[f"network_{name}_bytes"] = bytes_s + flood * (np.float32(NETWORK_CAPACITY) - bytes_s)
    return values


def _filesystem(traits: Traits, effects: Effects, activity: Series) -> npt.NDArray[np.float64]:
    """Grows with the activity, falls back to the low mark at a clean-up, and fills up in an incident."""
    grown = traits.filesystem_at + np.cumsum(traits.filesystem_rate * activity, axis=1, dtype=np.float64)
    used = traits.filesystem_low + grown % (traits.filesystem_high - traits.filesystem_low)
    return np.asarray(used + effects.channels["disk"] * (DISK_FULL - used), dtype=np.float64)
