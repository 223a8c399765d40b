"""The state of a server: one function of what can be observed, for simulated and real servers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from fleetcast.contract.thresholds import threshold_matrix
from fleetcast.contract.vocabulary import STEPS_PER_HOUR, state_code

# The first of these whose rule holds is the state; `healthy` is what is left.
PRECEDENCE = (
    "offline",
    "maintenance",
    "critical_issue",
    "recovery",
    "morning_spike",
    "heavy_load",
    "idle",
    "healthy",
)
# Entered at the first numbers, left at the second ones: a metric that hovers at a limit does not flicker.
HEAVY = {"cpu_utilization": 0.60, "load1_per_core": 1.0}
HEAVY_KEPT = {"cpu_utilization": 0.50, "load1_per_core": 0.85}
IDLE = {"cpu_utilization": 0.05, "load1_per_core": 0.10}
IDLE_KEPT = {"cpu_utilization": 0.07, "load1_per_core": 0.15}
KEPT_STEPS = STEPS_PER_HOUR // 2
MORNING = (9.0, 10.0)  # local hours of a weekday
RECOVERY_STEPS = STEPS_PER_HOUR // 2
FRESH_BOOT_SECONDS = 1800.0


def state_rules() -> dict[str, object]:
    """The numbers of the state function as plain data, for the contract's digest and document."""
    return {
        "precedence": PRECEDENCE,
        "heavy_load": HEAVY,
        "heavy_load_kept": HEAVY_KEPT,
        "idle": IDLE,
        "idle_kept": IDLE_KEPT,
        "kept_steps": KEPT_STEPS,
        "morning_spike_local_hours": MORNING,
        "recovery_steps": RECOVERY_STEPS,
        "fresh_boot_seconds": FRESH_BOOT_SECONDS,
    }


def observed_state(
    values: npt.NDArray[np.floating],
    metrics: Sequence[str],
    profiles: npt.NDArray[np.integer],
    timestamps: npt.NDArray[np.int64],
    maintenance: npt.NDArray[np.bool_],
    timezone: str,
) -> npt.NDArray[np.int8]:
    """State codes [server, time] of the 5-minute grid.

    Args:
        values: [server, time, metric] in the contract's units; NaN is a missing value, and a step at which all
            metrics are missing had no sample.
        metrics: names of the last axis.
        profiles: profile codes [server].
        timestamps: Unix seconds [time], on the grid.
        maintenance: planned maintenance [server, time].
        timezone: IANA zone of the fleet, for the morning hours.

    First rule that holds: `offline` (no sample), `maintenance` (planned), `critical_issue` (a metric at or above its
    critical threshold), `recovery` (critical within the last half hour, or freshly booted), `morning_spike` (heavy
    between 9 and 10 on a weekday), `heavy_load`, `idle`, else `healthy`. Heavy and idle have hysteresis: entered at one
    limit, they last up to half an hour more until a wider one is passed. Only the present and the past are read, the
    past no further than half an hour.
    """
    index = {name: column for column, name in enumerate(metrics)}
    critical = _critical(values, metrics, profiles)
    heavy = _kept(_reaches(values, index, HEAVY), _reaches(values, index, HEAVY_KEPT))
    idle = _kept(_stays_below(values, index, IDLE), _stays_below(values, index, IDLE_KEPT))
    recovering = _within(critical, RECOVERY_STEPS)
    if "uptime_seconds" in index:
        recovering |= values[:, :, index["uptime_seconds"]] < FRESH_BOOT_SECONDS
    rules = {
        "offline": _absent(values),
        "maintenance": maintenance,
        "critical_issue": critical,
        "recovery": recovering,
        "morning_spike": heavy & is_morning(timestamps, timezone)[None, :],
        "heavy_load": heavy,
        "idle": idle,
    }
    codes = np.full(critical.shape, state_code("healthy"), np.int8)
    for name in reversed(PRECEDENCE[:-1]):  # so that the first rule that holds has the last word
        np.copyto(codes, np.int8(state_code(name)), where=rules[name])
    return codes


def is_morning(timestamps: npt.NDArray[np.int64], timezone: str) -> npt.NDArray[np.bool_]:
    """Whether each time (Unix seconds) lies between 9 and 10 on a weekday in the zone, shape [time]."""
    quarters, place = np.unique(timestamps // 900, return_inverse=True)  # no zone's offset splits a quarter of an hour
    local = pd.to_datetime(quarters * 900, unit="s", utc=True).tz_convert(ZoneInfo(timezone))
    hours = local.hour + local.minute / 60
    return np.asarray((local.dayofweek < 5) & (hours >= MORNING[0]) & (hours < MORNING[1]))[place]


def _critical(
    values: npt.NDArray[np.floating], metrics: Sequence[str], profiles: npt.NDArray[np.integer]
) -> npt.NDArray[np.bool_]:
    limits = threshold_matrix(metrics).astype(values.dtype)  # so that a stored float32 of 0.95 is at 0.95
    held = np.zeros(values.shape[:2], dtype=bool)
    for column in np.flatnonzero(np.isfinite(limits).any(axis=0)):
        held |= values[:, :, column] >= limits[profiles, column][:, None]
    return held


def _absent(values: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Where all metrics are missing."""
    absent = np.ones(values.shape[:2], dtype=bool)
    for column in range(values.shape[2]):
        absent &= np.isnan(values[:, :, column])
        if not absent.any():
            break
    return absent


def _reaches(values: npt.NDArray[Any], index: dict[str, int], limits: dict[str, float]) -> npt.NDArray[np.bool_]:
    """Where one of the metrics is at or above its limit."""
    held = np.zeros(values.shape[:2], dtype=bool)
    for name, limit in limits.items():
        if name in index:
            held |= values[:, :, index[name]] >= limit
    return held


def _stays_below(values: npt.NDArray[Any], index: dict[str, int], limits: dict[str, float]) -> npt.NDArray[np.bool_]:
    """Where the metrics that have a value, one at least, are all below their limits."""
    known = np.zeros(values.shape[:2], dtype=bool)
    held = np.ones(values.shape[:2], dtype=bool)
    for name, limit in limits.items():
        if name in index:
            series = values[:, :, index[name]]
            known |= ~np.isnan(series)
            held &= np.isnan(series) | (series < limit)
    return held & known


def _kept(entered: npt.NDArray[np.bool_], kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where `entered` holds, or held in one of the `KEPT_STEPS` steps before and `kept` at every step since."""
    held, lasting = entered.copy(), entered
    for _ in range(min(KEPT_STEPS, entered.shape[1] - 1)):
        lasting = _one_step_later(lasting) & kept
        held |= lasting
    return held


def _one_step_later(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    later = np.zeros_like(flags)
    later[:, 1:] = flags[:, :-1]
    return later


def _within(flags: npt.NDArray[np.bool_], steps: int) -> npt.NDArray[np.bool_]:
    """Whether a flag was set at one of the `steps` steps before each step."""
    held = np.zeros_like(flags)
    for back in range(1, min(steps, flags.shape[1] - 1) + 1):
        held[:, back:] |= flags[:, :-back]
    return held
