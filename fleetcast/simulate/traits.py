"""How one server differs from its profile: size, level, phase, noise and the like, drawn once for its whole life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled
from fleetcast.contract.thresholds import threshold
from fleetcast.contract.vocabulary import PROFILES, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.simulate.arithmetic import F, expf, logf, normal_pair
from fleetcast.simulate.layout import Layout
from fleetcast.simulate.profiles import BASELINES, COURSES, HABITS
from fleetcast.simulate.randomness import Stream, philox, uniform_table

PHASE_STEPS = 3
MEMORY_FULL, DISK_FULL = 1.0, 0.985  # what full intensity of these channels leads to
FAST_ONSET = 0.45  # intensity of the fast kinds at the end of the precursor
_NORMALS, _UNIFORMS = 4, 4  # counters of four numbers each
_LINEAR = ("cpu_user", "cpu_system", "cpu_iowait", "memory", "swap", "receive", "transmit", "close_wait", "load")
_NAMES = (
    *("level", "noise", "shock", *_LINEAR, "disk_depth", "disk_low", "disk_width", "disk_at", "disk_rate", "boot"),
    *("iowait_critical", "onset_memory", "onset_disk", "backup"),
)
# One value a server and trait: means of a healthy hour as in `BASELINES`; `noise` and `shock` are sensitivities;
# the filesystem runs from `disk_low` over `disk_width`, starts `disk_at` above the low mark and grows by `disk_rate` a
# step under normal load; `disk_depth` turns I/O wait into disk time; `boot` is the uptime at the start in seconds;
# `onset_*` is the intensity at which a slow kind reaches the critical threshold; `phase` in steps; the nightly backup
# takes `backup_steps` from the local slot `backup_slot` on and weighs `backup`.
TRAITS = np.dtype(
    [(name, "f4") for name in _NAMES]
    + [("profile", "i4"), ("phase", "i4"), ("backup_slot", "i4"), ("backup_steps", "i4")],
    align=True,
)


def draw_traits(layout: Layout, servers: Sequence[int]) -> npt.NDArray[np.void]:
    """The traits of these servers (indices in the fleet), in this order: records `TRAITS`, shape [len(servers)]."""
    spec = layout.spec
    indices = np.asarray(servers, np.int64)
    profiles = np.array([PROFILES.index(layout.profile(server)) for server in servers])
    normal = np.empty((4 * _NORMALS, len(indices)), np.float32)
    _normal_table(spec.seed, indices, normal)
    uniform = uniform_table(spec.seed, indices, Stream.TRAITS, _UNIFORMS).T
    found = np.zeros(len(indices), TRAITS)
    found["profile"] = profiles
    _draw_work(found, profiles, normal, F(spec.noise))
    _draw_disk(found, profiles, normal, uniform)
    _draw_habits(found, profiles, normal, uniform)
    found["onset_memory"] = _onset("memory_used", found["memory"], MEMORY_FULL)
    found["onset_disk"] = _onset("filesystem_used", found["disk_low"] + found["disk_width"] / 2, DISK_FULL)
    return found


def _draw_work(found: Any, profiles: Any, normal: Any, noise: Any) -> None:
    found["level"] = _lognormal(
        normal[2].clip(-2.2, 2.2), np.array([COURSES[name].level_spread for name in PROFILES])[profiles]
    )
    found["noise"] = _lognormal(normal[12], 0.25) * noise
    size = _lognormal(normal[0], 0.35)
    for name, metric, wide, draw in (
        ("cpu_user", "cpu_user", 0.05, normal[3]),
        ("cpu_system", "cpu_system", 0.1, normal[4]),
        ("cpu_iowait", "cpu_iowait", 0.12, normal[5]),
        ("swap", "swap_used", 0.3, normal[7]),
        ("transmit", "network_transmit_bytes", 0.1, normal[9]),
        ("close_wait", "tcp_close_wait", 0.2, normal[10]),
        ("load", "load1_per_core", 0.08, normal[11].clip(-2, 2)),
    ):
        found[name] = _base(metric, profiles) * _lognormal(draw, wide)
    found["receive"] = _base("network_receive_bytes", profiles) * size
    found["transmit"] *= size
    found["memory"] = np.clip(_base("memory_used", profiles) + F(0.03) * normal[6], 0.2, 0.82)


def _draw_disk(found: Any, profiles: Any, normal: Any, uniform: Any) -> None:
    middle = np.clip(_base("filesystem_used", profiles) + F(0.04) * normal[1], 0.15, 0.78)
    half = F(0.03) + F(0.04) * uniform[0]
    found["disk_low"], found["disk_width"], found["disk_at"] = middle - half, 2 * half, uniform[1] * 2 * half
    found["disk_rate"] = (F(0.01) + F(0.02) * uniform[2]) / F(STEPS_PER_DAY)
    busy = _base("disk_io_time", profiles) * _lognormal(normal[8].clip(-2, 2), 0.1)
    found["disk_depth"] = -_log(F(1) - busy) / found["cpu_iowait"]
    critical = [threshold("cpu_iowait", name) for name in PROFILES]
    found["iowait_critical"] = np.array([limit.critical for limit in critical if limit], np.float32)[profiles]


def _draw_habits(found: Any, profiles: Any, normal: Any, uniform: Any) -> None:
    habits = [HABITS[name] for name in PROFILES]
    found["phase"] = (uniform[3] * (2 * PHASE_STEPS + 1)).astype(np.int32) - PHASE_STEPS
    found["boot"] = np.floor(F(86400) * (F(1) + F(59) * uniform[4]))
    found["shock"] = np.array([habit.shock for habit in habits], np.float32)[profiles] * _lognormal(normal[13], 0.3)
    has = uniform[5] < np.array([habit.backup_share for habit in habits], np.float32)[profiles]
    found["backup"] = np.where(has, F(0.6) + F(0.8) * uniform[6], F(0))
    evening = 20 * STEPS_PER_HOUR
    found["backup_slot"] = (evening + (uniform[7] * F(9 * STEPS_PER_HOUR)).astype(np.int32)) % STEPS_PER_DAY
    found["backup_steps"] = 4 + (uniform[8] * F(9)).astype(np.int32)


def _onset(metric: str, normal: Any, full: float) -> Any:
    limit = threshold(metric)
    assert limit is not None
    return (F(limit.critical) - normal) / (F(full) - normal)


def _base(metric: str, profiles: Any) -> Any:
    return np.array([BASELINES[name][metric] for name in PROFILES], np.float32)[profiles]


def _lognormal(normal: Any, spread: Any) -> Any:
    """Log-normal factors with mean 1."""
    wide = np.asarray(spread, np.float32)
    return _exp(wide * normal - wide * wide / F(2))


@compiled
def _exp(values: Any) -> Any:
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = expf(values[i])
    return out


@compiled
def _log(values: Any) -> Any:
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = logf(values[i])
    return out


_TRAITS = int(Stream.TRAITS)


@compiled
def _normal_table(seed: int, servers: Any, out: Any) -> None:
    """Fill `out` [4 x counters, server] with standard normal numbers."""
    for row in range(len(servers)):
        for call in range(len(out) // 4):
            a, b, c, d = philox(1000 + call, servers[row], _TRAITS, 0, seed)
            out[4 * call, row], out[4 * call + 1, row] = normal_pair(np.uint32(a), np.uint32(b))
            out[4 * call + 2, row], out[4 * call + 3, row] = normal_pair(np.uint32(c), np.uint32(d))
