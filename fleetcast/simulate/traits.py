"""How one server differs from its profile: size, level, phase and the like, drawn once for its whole life."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetcast.contract.thresholds import threshold
from fleetcast.contract.vocabulary import STEPS_PER_DAY, UNKNOWN
from fleetcast.simulate.layout import Layout
from fleetcast.simulate.profiles import BASELINES, COURSES
from fleetcast.simulate.randomness import Stream, stream

PHASE_STEPS = 3
Column = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Traits:
    """One value a server and trait; every array has shape [server, 1] to broadcast over time.

    Means of a healthy hour as in `BASELINES`; `phase` in steps; `filesystem_low` and `filesystem_high` are where a
    clean-up ends and begins, `filesystem_at` is the position between them at the start, `filesystem_rate` the growth a
    step under normal load; `boot` is the uptime at the start in seconds; `iowait_critical` the contract's threshold.
    """

    profiles: tuple[str, ...]
    phase: tuple[int, ...]
    level: Column
    cpu_user: Column
    cpu_system: Column
    cpu_iowait: Column
    memory: Column
    swap: Column
    disk_io_time: Column
    receive: Column
    transmit: Column
    close_wait: Column
    load: Column
    filesystem_low: Column
    filesystem_high: Column
    filesystem_at: Column
    filesystem_rate: Column
    boot: npt.NDArray[np.float64]
    iowait_critical: Column

    @property
    def filesystem(self) -> Column:
        """Middle of the filesystem's normal range."""
        return np.asarray((self.filesystem_low + self.filesystem_high) / 2, np.float32)


def draw_traits(layout: Layout, servers: list[int]) -> Traits:
    """The traits of these servers (indices in the fleet), in this order."""
    profiles = tuple(layout.profile(server) for server in servers)
    generators = [stream(layout.spec.seed, server, Stream.TRAITS) for server in servers]
    normal = np.array([generator.standard_normal(12) for generator in generators]).T
    uniform = np.array([generator.random(6) for generator in generators]).T

    def base(metric: str) -> npt.NDArray[np.float64]:
        return np.array([BASELINES[profile][metric] for profile in profiles], dtype=np.float64)

    spread = np.array([COURSES[profile].level_spread for profile in profiles])
    size = _lognormal(normal[0], 0.35)
    middle = np.clip(base("filesystem_used") + 0.04 * normal[1], 0.15, 0.78)
    half = 0.03 + 0.04 * uniform[0]
    width = 2 * half
    values = {
        "level": _lognormal(normal[2].clip(-2.2, 2.2), spread),
        "cpu_user": base("cpu_user") * _lognormal(normal[3], 0.05),
        "cpu_system": base("cpu_system") * _lognormal(normal[4], 0.1),
        "cpu_iowait": base("cpu_iowait") * _lognormal(normal[5], 0.12),
        "memory": np.clip(base("memory_used") + 0.03 * normal[6], 0.2, 0.82),
        "swap": base("swap_used") * _lognormal(normal[7], 0.3),
        "disk_io_time": base("disk_io_time") * _lognormal(normal[8].clip(-2, 2), 0.1),
        "receive": base("network_receive_bytes") * size,
        "transmit": base("network_transmit_bytes") * size * _lognormal(normal[9], 0.1),
        "close_wait": base("tcp_close_wait") * _lognormal(normal[10], 0.2),
        "load": base("load1_per_core") * _lognormal(normal[11].clip(-2, 2), 0.08),
        "filesystem_low": middle - half,
        "filesystem_high": middle + half,
        "filesystem_at": uniform[1] * width,
        "filesystem_rate": (0.01 + 0.02 * uniform[2]) / STEPS_PER_DAY,
        "iowait_critical": np.array([_critical("cpu_iowait", profile) for profile in profiles]),
    }
    columns = {name: np.asarray(column, np.float32)[:, None] for name, column in values.items()}
    return Traits(
        profiles=profiles,
        phase=tuple(int(draw * (2 * PHASE_STEPS + 1)) - PHASE_STEPS for draw in uniform[3]),
        boot=np.floor(86400 * (1 + 59 * uniform[4]))[:, None],
        **columns,
    )


def _lognormal(normal: npt.NDArray[np.float64], spread: npt.NDArray[np.float64] | float) -> npt.NDArray[np.float64]:
    """Log-normal factors with mean 1."""
    return np.asarray(np.exp(spread * normal - np.square(spread) / 2))


def _critical(metric: str, profile: str = UNKNOWN) -> float:
    limit = threshold(metric, profile)
    assert limit is not None
    return limit.critical
