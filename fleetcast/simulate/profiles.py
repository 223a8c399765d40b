"""What the seven kinds of server do on a normal day (calibrations of the fleet's domain page)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import PROFILES
from fleetcast.simulate.calendar import MarketTime

# Means of a healthy hour in contract units, in the order of `PROFILES`:
# ml_compute, database, web_api, conductor_mgmt, data_ingest, risk_analytics, generic
_BASELINES: dict[str, tuple[float, ...]] = {
    "cpu_user": (0.45, 0.25, 0.18, 0.15, 0.35, 0.55, 0.12),
    "cpu_system": (0.08, 0.12, 0.05, 0.06, 0.10, 0.08, 0.04),
    "cpu_iowait": (0.02, 0.15, 0.03, 0.02, 0.08, 0.02, 0.01),
    "memory_used": (0.72, 0.68, 0.45, 0.42, 0.62, 0.70, 0.35),
    "swap_used": (0.05, 0.03, 0.02, 0.02, 0.04, 0.05, 0.01),
    "filesystem_used": (0.55, 0.70, 0.35, 0.40, 0.65, 0.50, 0.30),
    "disk_io_time": (0.12, 0.42, 0.10, 0.08, 0.35, 0.10, 0.06),
    "network_receive_bytes": (8.5e6, 35e6, 85e6, 22e6, 150e6, 12e6, 15e6),
    "network_transmit_bytes": (5.2e6, 28e6, 120e6, 18e6, 95e6, 8e6, 12e6),
    "tcp_close_wait": (2, 8, 12, 5, 10, 3, 2),
    "load1_per_core": (0.8, 0.5, 0.35, 0.4, 0.7, 1.0, 0.2),
}
BASELINES = {
    profile: {metric: means[position] for metric, means in _BASELINES.items()}
    for position, profile in enumerate(PROFILES)
}

WEEKDAY = np.array([1.04, 1.0, 1.02, 1.0, 0.95, 1.0, 1.0])
SMOOTH_STEPS = 7  # edges of a curve are spread over half an hour


@dataclass(frozen=True)
class DayCourse:
    """How load runs over the day: points (hour, relative load), linear between.

    `trading_day` is in hours of a full trading day; `month_end` is the extra load on the last sessions of a month;
    `level_spread` is the log-standard deviation of the level between servers of the profile.
    """

    trading_day: tuple[tuple[float, float], ...]
    closed_day: tuple[tuple[float, float], ...]
    level_spread: float
    month_end: float = 0.0


def _points(text: str) -> tuple[tuple[float, float], ...]:
    """Points from a text such as `0:1.3 7:0.95 24:1.3`."""
    pairs = (point.split(":") for point in text.split())
    return tuple((float(hour), float(load)) for hour, load in pairs)


COURSES = {
    "ml_compute": DayCourse(
        _points("0:1.3 5:1.25 7:0.95 9.5:0.7 16:0.72 18:1 20:1.3 24:1.3"),
        _points("0:1.25 8:1.1 14:1.1 20:1.25 24:1.3"),
        level_spread=0.12,
    ),
    "database": DayCourse(
        _points("0:.7 6:.7 8:.9 9.5:1.25 12:1.15 12.5:1.05 13:1.12 15.5:1.25 16:1.45 18:1.45 19:1.1 21:.8 24:.7"),
        _points("0:.65 9:.55 18:.55 24:.65"),
        level_spread=0.15,
        month_end=0.15,
    ),
    "web_api": DayCourse(
        _points(
            "0:.5 6:.5 8.5:.85 9:1.5 9.5:1.8 10.25:1.4 12:1.3 12.5:1.05 13:1.2 "
            "15.5:1.4 15.8:1.65 16.25:1.4 17:1 19:.6 24:.5"
        ),
        _points("0:.45 6:.4 11:.6 18:.6 24:.45"),
        level_spread=0.25,
        month_end=0.05,
    ),
    "conductor_mgmt": DayCourse(
        _points("0:.8 6.5:.8 7.25:1.7 8.5:1.9 9.5:1.4 10.5:1 16:.95 17:1.2 19:.9 24:.8"),
        _points("0:.7 12:.6 24:.7"),
        level_spread=0.18,
        month_end=0.1,
    ),
    "data_ingest": DayCourse(
        _points("0:.5 7:.55 9:.9 9.5:1.7 10:1.55 12:1.3 13:1.2 15.5:1.5 16:1.6 16.75:1.2 19:.65 24:.5"),
        _points("0:.45 12:.4 24:.45"),
        level_spread=0.15,
        month_end=0.12,
    ),
    "risk_analytics": DayCourse(
        _points("0:.9 6:.8 9.5:.8 15.75:.85 16.5:1.65 18.5:1.7 19.5:1.3 21:.95 24:.9"),
        _points("0:.8 6:.6 20:.6 24:.8"),
        level_spread=0.1,
        month_end=0.3,
    ),
    "generic": DayCourse(_points("0:.95 9:1 17:1.05 24:.95"), _points("0:.95 24:.95"), level_spread=0.75),
}


@dataclass(frozen=True)
class Habits:
    """What else a profile does besides its course of the day.

    Batch work: periods of `batch_hours` (log-uniform) in which the demand is higher by a factor of `batch_load`,
    `batch_per_day` of them a day while there is none. `backup_share` of the servers have a nightly backup. `shock` is
    how strongly a fleet-wide shock is felt.
    """

    batch_per_day: float
    batch_hours: tuple[float, float]
    batch_load: tuple[float, float]
    backup_share: float
    shock: float


HABITS = {
    "ml_compute": Habits(2.0, (0.75, 6.0), (1.1, 1.35), backup_share=0.3, shock=0.1),
    "database": Habits(1.5, (0.3, 2.0), (1.1, 1.5), backup_share=0.9, shock=0.7),
    "web_api": Habits(0.7, (0.3, 1.5), (1.1, 1.5), backup_share=0.4, shock=1.0),
    "conductor_mgmt": Habits(1.0, (0.3, 1.5), (1.1, 1.5), backup_share=0.5, shock=0.3),
    "data_ingest": Habits(2.0, (0.3, 2.0), (1.1, 1.6), backup_share=0.6, shock=0.8),
    "risk_analytics": Habits(1.5, (0.5, 4.0), (1.1, 1.4), backup_share=0.5, shock=0.5),
    "generic": Habits(1.0, (0.3, 3.0), (1.2, 2.0), backup_share=0.5, shock=0.2),
}


def day_curve(course: DayCourse, market: MarketTime) -> npt.NDArray[np.float32]:
    """Relative load at each step but the first and last three, shape [time - 6]; the mean of a trading day is 1."""
    trading = np.interp(market.hour, *np.transpose(course.trading_day)) * WEEKDAY[market.weekday]
    closed = np.interp(market.hour, *np.transpose(course.closed_day))
    curve = np.where(market.trading, trading, closed) * (1.0 + course.month_end * market.month_end)
    width = len(curve) - SMOOTH_STEPS + 1
    smooth = sum(curve[offset : offset + width] for offset in range(SMOOTH_STEPS)) / SMOOTH_STEPS
    hours, loads = np.transpose(course.trading_day)
    return np.asarray(smooth * 24.0 / np.trapezoid(loads, hours), dtype=np.float32)
