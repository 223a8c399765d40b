"""What a server's metrics say beside each other: ratios of metrics that demand moves alike, against their own past.

Demand drives CPU, network, connections and load together, so the logarithm of a ratio of two of them hardly moves with
it: what moves it is trouble of one kind, often long before a threshold is near. Each ratio is compared with its median
over the past week, with the same hour yesterday, and with itself a little earlier; memory with what the demand of the
last hours explains of it (least squares over the week, outliers left out).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEPS_PER_DAY

USER, SYSTEM, IOWAIT, CPU = "cpu_user", "cpu_system", "cpu_iowait", "cpu_utilization"
RECEIVE, SEND, LINKS, LOAD = "network_receive_bytes", "network_transmit_bytes", "tcp_close_wait", "load1_per_core"
MEMORY, FAULTS, IO = "memory_used", "major_page_faults", "disk_io_time"
PAIRS = (
    (USER, SYSTEM), (IOWAIT, USER), (IOWAIT, SYSTEM), (RECEIVE, USER), (RECEIVE, SYSTEM), (SEND, RECEIVE),
    (LINKS, RECEIVE), (LINKS, USER), (LOAD, CPU), (LOAD, SYSTEM), (FAULTS, RECEIVE), (CPU, RECEIVE), (IO, RECEIVE),
)  # fmt: skip
SMALLEST = {RECEIVE: 1e3, SEND: 1e3, LINKS: 1.0, LOAD: 0.01, FAULTS: 0.1}  # added before the logarithm
SMALLEST_RATIO = 0.002
BLOCK = 6  # steps of a half hour: what medians and the fit are taken of
EDGES = (0, 1, 3, 6, 12, 24, 48, 96)  # steps back from the origin
CLIMBS = (6, 12, 24)
NEAR_STEPS = STEPS_PER_DAY + BLOCK
LEAST_SPREAD = 0.02
BLOCK_EDGES = (0, 1, 2, 4, 8, 16, 32)
RETAINED = 0.6  # of the demand that memory follows, from one half hour to the next
OUTLIER = 4.0

Floats = npt.NDArray[np.float32]


def balance_names(metrics: Sequence[str]) -> list[str]:
    """Names of the facts of the pairs that these metrics have, in the order of `balance`."""
    names = [f"{first}_per_{second}_{fact}" for first, second in pairs_of(metrics) for fact in _FACTS]
    return names + ([f"{MEMORY}_over_demand_{edge}" for edge in BLOCK_EDGES[1:]] if _memory(metrics) else [])


def pairs_of(metrics: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs both sides of which are there."""
    return [pair for pair in PAIRS if set(pair) <= set(metrics)]


def balance(metrics: Sequence[str], values: Floats) -> Floats:
    """Facts [server, fact] of samples [metric, server, time] that end at the origin, gaps filled with what was before.

    NaN, from before a server's first sample, is left out; a fact that needs more than there is is NaN.
    """
    halves = _blocks(values)
    near = values[:, :, -NEAR_STEPS:]
    logs = {
        name: (_log(near[metrics.index(name)], name), _log(halves[metrics.index(name)], name))
        for name in {name for pair in pairs_of(metrics) for name in pair}
    }
    columns = []
    for one, other in pairs_of(metrics):
        columns += _facts_of(logs[one][0] - logs[other][0], logs[one][1] - logs[other][1])
    if _memory(metrics):
        columns += _over_demand(halves[metrics.index(MEMORY)], logs[RECEIVE][1])
    if not columns:
        return np.zeros((values.shape[1], 0), np.float32)
    return np.stack(columns, axis=1).astype(np.float32)


_FACTS = (*(f"off_{far}" for far in EDGES[1:]), "odd", "like", "usual", *(f"climb_{steps}" for steps in CLIMBS))


def _log(series: Floats, name: str) -> Floats:
    return np.asarray(np.log(np.maximum(series, 0) + np.float32(SMALLEST.get(name, SMALLEST_RATIO))), np.float32)


def _facts_of(ratio: Floats, halves: Floats) -> list[Floats]:
    """Facts of a ratio [server, time] of the last day, and of the half hours of the week [server, block]."""
    end = ratio.shape[1]
    middle = _median(halves)
    spread = 1.4826 * _median(np.abs(halves - middle[:, None])) + LEAST_SPREAD
    off = [ratio[:, end - far : end - near].mean(axis=1) - middle for near, far in pairwise(EDGES)]
    at = end - STEPS_PER_DAY
    like = ratio[:, -BLOCK:].mean(axis=1) - ratio[:, max(at - BLOCK, 0) : at + BLOCK].mean(axis=1)
    climbs = [ratio[:, -steps // 2 :].mean(axis=1) - ratio[:, -steps : -steps // 2].mean(axis=1) for steps in CLIMBS]
    return [*off, ratio[:, -3:].mean(axis=1) / spread - middle / spread, like, middle, *climbs]


def _over_demand(used: Floats, asked: Floats) -> list[Floats]:
    """Memory less what demand explains, of the last half hours; both arguments are [server, block]."""
    followed = np.empty_like(asked)
    state = np.where(np.isnan(asked[:, 0]), 0, asked[:, 0])
    for place in range(asked.shape[1]):
        now = asked[:, place]
        state = np.where(np.isnan(now), state, RETAINED * state + (1 - RETAINED) * now)
        followed[:, place] = state
    middle = _median(used)[:, None]
    far = np.abs(used - middle)
    kept = far <= OUTLIER * 1.4826 * _median(far)[:, None] + 1e-4
    count = np.maximum(kept.sum(axis=1), 1)
    x = np.where(kept, followed, 0)
    y = np.where(kept, used, 0)
    mean_x, mean_y = (one.sum(axis=1) / count for one in (x, y))
    x, y = np.where(kept, followed - mean_x[:, None], 0), np.where(kept, used - mean_y[:, None], 0)
    slope = np.clip((x * y).sum(axis=1) / ((x * x).sum(axis=1) + 1e-3), -0.3, 0.3)
    left = used - mean_y[:, None] - slope[:, None] * (followed - mean_x[:, None])
    end = left.shape[1]
    return [left[:, end - far : end - near].mean(axis=1) for near, far in pairwise(BLOCK_EDGES)]


def _blocks(values: Floats) -> Floats:
    """Means of half hours counted back from the origin, [metric, server, block]."""
    last = values.shape[2]
    first = last % BLOCK
    total = values[:, :, first::BLOCK].copy()
    for step in range(1, BLOCK):
        total += values[:, :, first + step :: BLOCK]
    return np.asarray(total / BLOCK, np.float32)


def _median(values: Floats) -> Floats:
    """Median over axis 1 of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    if known.all():
        return np.asarray(np.median(values, axis=1), np.float32)
    found = np.full(len(values), np.nan, np.float32)
    some = known.any(axis=1)
    found[some] = np.nanmedian(values[some], axis=1)
    return found


def _memory(metrics: Sequence[str]) -> bool:
    return {MEMORY, RECEIVE} <= set(metrics)
