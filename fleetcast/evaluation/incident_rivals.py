"""What people alert on today, as scores that the model is compared with at equal false alerts.

Both read samples up to the origin and nothing else, and answer [server, horizon]; 1 is the rule's own threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.risk.limits import Limits
from fleetcast.risk.probability import HORIZONS
from fleetcast.windows.arrays import FleetArrays

HELD_STEPS = 3  # 15 minutes
LEVEL_RULES = {"memory_used": 0.9, "load1_per_core": 2.0, "major_page_faults": 500.0}
BUSY_CPU = 0.9  # all but idle and iowait
FILL_STEPS = 6 * STEPS_PER_HOUR  # the line is fitted on so much
FILL_HELD_STEPS = STEPS_PER_HOUR
FILL_RULES = ((0.4, 24.0), (0.2, 4.0))  # less than this share free, and full within so many hours
TREND_STEPS = 2 * STEPS_PER_HOUR
MOST = 100.0

Doubles = npt.NDArray[np.float64]


def node_mixin(past: FleetArrays, metrics: Sequence[str], limits: Limits) -> Doubles:
    """The rules of the Prometheus node mixin on the samples that the fleet has, the largest of them.

    CPU without idle and iowait above 90 %, memory above 90 %, load a core above 2, each for 15 min; more than 500
    major faults a second; a filesystem with less than 40 % (20 %) free that a line through the last 6 h fills within
    24 h (4 h), for an hour. Each is how far its measure is of its threshold: the least of the samples that it must
    hold for, or the hours allowed over the hours left.
    """
    scores = [np.zeros(len(past.servers))]
    for metric, bound in LEVEL_RULES.items():
        if metric in past.metrics:
            scores.append(_held(past, metric) / bound)
    if "cpu_utilization" in past.metrics:
        work = past.select(["cpu_utilization"])[:, :, 0] - np.nan_to_num(past.select(["cpu_iowait"])[:, :, 0])
        scores.append(_least(work, HELD_STEPS) / BUSY_CPU)
    if "filesystem_used" in past.metrics:
        scores.append(_filling(past.select(["filesystem_used"])[:, :, 0].astype(np.float64)))
    most = np.clip(np.fmax.reduce(np.stack(scores), axis=0), 0.0, MOST)
    return np.repeat(most[:, None], len(HORIZONS), axis=1)


def linear_trend(past: FleetArrays, metrics: Sequence[str], limits: Limits) -> Doubles:
    """A line through the last two hours of each metric, where it is at the end of the horizon, over its limit.

    The largest over the metrics of max(now, then) / limit.
    """
    values = past.select(metrics)[:, -TREND_STEPS:].astype(np.float64)
    level, slope = _line(values)
    ends = np.array(list(HORIZONS.values()))
    then = level[:, :, None] + slope[:, :, None] * ends
    share = np.maximum(level[:, :, None], then) / limits[:, :, None]
    return np.asarray(np.clip(np.nan_to_num(np.fmax.reduce(share, axis=1)), 0.0, MOST))


INCIDENT_RIVALS = {"node mixin": node_mixin, "linear trend": linear_trend}


def _held(past: FleetArrays, metric: str) -> Doubles:
    return _least(past.select([metric])[:, :, 0], HELD_STEPS)


def _least(values: npt.NDArray[np.floating], steps: int) -> Doubles:
    """Least of the last steps, 0 where one has no sample."""
    return np.asarray(np.nan_to_num(values[:, -steps:].min(axis=1).astype(np.float64)))


def _filling(used: Doubles) -> Doubles:
    """Score of the filesystem rules: the least over the steps of the last hour of the larger of both."""
    held = []
    for back in range(0, min(FILL_HELD_STEPS, used.shape[1] - 1), HELD_STEPS):
        window = used[:, max(used.shape[1] - back - FILL_STEPS, 0) : used.shape[1] - back]
        level, slope = (side[:, 0] for side in _line(window[:, :, None]))
        hours = np.where(slope > 0, (1.0 - level) / np.maximum(slope, 1e-12) / STEPS_PER_HOUR, np.inf)
        scores = [np.where(1.0 - level < free, within / np.maximum(hours, 1e-6), 0.0) for free, within in FILL_RULES]
        held.append(np.nan_to_num(np.maximum(*scores)))
    return np.minimum.reduce(held) if held else np.zeros(len(used))


def _line(values: Doubles) -> tuple[Doubles, Doubles]:
    """Level at the last step and slope a step of least-squares lines [server, metric] of [server, time, metric]."""
    time = np.arange(values.shape[1], dtype=np.float64)[None, :, None]
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        center = np.where(known, time, 0.0).sum(axis=1) / count
        mean = np.where(known, values, 0.0).sum(axis=1) / count
        away = np.where(known, time - center[:, None], 0.0)
        slope = (away * np.where(known, values - mean[:, None], 0.0)).sum(axis=1) / (away**2).sum(axis=1)
    slope = np.where(count > 1, np.nan_to_num(slope), 0.0)
    return mean + slope * (values.shape[1] - 1 - center), slope
