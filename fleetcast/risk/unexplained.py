"""What a server's load does not explain: how each metric departs from its own past relation to the others.

A leak or a runaway process moves one metric away from the work that usually goes with it. Each metric is regressed, on
the server's own week before the origin, on what measures work: CPU, traffic in and out, each now and as a mean of the
last hour. The residual at the origin, in units of its own spread, is what the work does not explain.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

WORK = ("cpu_utilization", "network_receive_bytes", "network_transmit_bytes")
EXCLUDED = ("uptime_seconds", "filesystem_used", "cpu_utilization", "cpu_system")
LAST_STEPS = 96  # not fitted on: what is being looked at
STRIDE = 3  # every third step is fitted on
AVERAGE_STEPS = 12
RIDGE = 1e-3
SMALL = 0.005  # added to a ratio before its logarithm: work multiplies
RECENT = (3, 12, 36, 96)
CHANGES = (12, 48)

Doubles = npt.NDArray[np.float64]


def unexplained(
    metrics: Sequence[str], series: Sequence[Doubles], logarithms: Collection[str]
) -> tuple[list[str], list[Doubles]]:
    """Names and facts [server] of residuals.

    `series` are [server, time], one a metric of `metrics`, without gaps after the first sample, ending at the origin;
    those named in `logarithms` are logarithms already, the others ratios. A server without a day of past beyond the
    last 8 h has NaN; where less than two measures of work are there, there are no facts.
    """
    work = [name for name in WORK if name in metrics]
    targets = [name for name in metrics if name not in EXCLUDED]
    names = [f"{name}_{fact}" for name in targets for fact in _names()]
    if len(work) < 2:
        return [], []
    place = {name: number for number, name in enumerate(metrics)}
    scaled = {
        name: series[place[name]] if name in logarithms else np.log(np.maximum(series[place[name]], 0) + SMALL)
        for name in {*work, *targets}
    }
    found: list[Doubles] = []
    for name in targets:
        inputs = [scaled[other] for other in work if other != name]
        found += _facts(_residual(scaled[name], inputs))
    return names, found


def _names() -> list[str]:
    return [*(f"off_{steps}" for steps in RECENT), *(f"off_change_{steps}" for steps in CHANGES), "off_highest"]


def _residual(target: Doubles, inputs: Sequence[Doubles]) -> Doubles:
    """Residual over its own spread, [server, time], of a ridge regression on the steps before the last ones."""
    columns = [*inputs, *(_average(one) for one in inputs)]
    design = np.stack(columns, axis=2)
    fitted = slice(AVERAGE_STEPS, -LAST_STEPS, STRIDE)
    x, y = design[:, fitted], target[:, fitted]
    known = ~(np.isnan(x).any(axis=2) | np.isnan(y))
    count = np.maximum(known.sum(axis=1), 1)[:, None]
    x, y = np.where(known[:, :, None], x, 0.0), np.where(known, y, 0.0)
    center, level = x.sum(axis=1) / count, y.sum(axis=1, keepdims=True) / count
    x = np.where(known[:, :, None], x - center[:, None], 0.0)
    y = np.where(known, y - level, 0.0)
    gram = np.einsum("stk,stl->skl", x, x) / count[:, :, None] + RIDGE * np.eye(x.shape[2])
    weights = np.linalg.solve(gram, (np.einsum("stk,st->sk", x, y) / count)[:, :, None])
    residual = target - level - ((design - center[:, None]) @ weights)[:, :, 0]
    spread = np.sqrt(np.where(known, residual[:, fitted] ** 2, 0.0).sum(axis=1, keepdims=True) / count)
    enough = known.sum(axis=1, keepdims=True) * STRIDE >= 288
    return np.where(enough, residual / (spread + 1e-3), np.nan)


def _facts(residual: Doubles) -> list[Doubles]:
    means = [residual[:, -steps:].mean(axis=1) for steps in RECENT]
    short = residual[:, -6:].mean(axis=1)
    changes = [short - residual[:, -steps - 6 : -steps].mean(axis=1) for steps in CHANGES]
    return [*means, *changes, residual[:, -12:].max(axis=1)]


def _average(series: Doubles) -> Doubles:
    """Mean of the last hour at each step; NaN before there is one."""
    sums = np.cumsum(np.nan_to_num(series), axis=1)
    found = np.full_like(series, np.nan)
    found[:, AVERAGE_STEPS:] = (sums[:, AVERAGE_STEPS:] - sums[:, :-AVERAGE_STEPS]) / AVERAGE_STEPS
    begun = np.maximum.accumulate(~np.isnan(series), axis=1)
    found[:, AVERAGE_STEPS:][~begun[:, :-AVERAGE_STEPS]] = np.nan
    return found
