"""Intervals of incident figures by resampling servers, each with all its origins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetcast.evaluation.bootstrap import DRAWS, draws_of, interval
from fleetcast.evaluation.figures import Interval
from fleetcast.evaluation.incident_scores import alerts_by_server, threshold_at

THRESHOLDS = 48  # that a draw chooses from, evenly spread over the ranks of the scores around the threshold
AROUND = 3.0  # up to so many times the false alerts asked for

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class IncidentIntervals:
    """The middle 95 % of the draws of each figure; None where no draw has the figure."""

    auprc: Interval | None
    brier_skill: Interval | None
    recall: Interval | None


def incident_intervals(
    scores: Doubles,
    ahead: Ints,
    censored: Flags,
    steps: Ints,
    horizon: int,
    false_rate: float,
    threshold: float,
    draws: int = DRAWS,
) -> IncidentIntervals:
    """Intervals of scores [origin, server] of incidents within `horizon` steps; the other arrays as `alert_scores`.

    The figures are those of `average_precision`, of `brier_skill` (where the scores are probabilities) and of the
    recall at `false_rate` false alerts per server-day; each draw has its own threshold, `threshold` is that of all.
    """
    known, servers = ~censored, scores.shape[1]
    happened = (ahead > 0) & (ahead <= horizon)
    if not (known & happened).any():
        return IncidentIntervals(None, None, None)
    ranked = _Ranked(scores[known], happened[known], np.nonzero(known)[1])
    error = np.where(known, (np.nan_to_num(scores) - happened) ** 2, 0.0).sum(axis=0)
    sums = np.stack([error, (happened & known).sum(axis=0), known.sum(axis=0)], axis=1)
    alerts = _Alerts.of(scores, ahead, censored, steps, horizon, false_rate, threshold)
    precision, skill, recall = [], [], []
    for counts in draws_of(servers, draws):
        precision.append(ranked.average_precision(counts))
        skill.append(_skill(counts @ sums))
        recall.append(alerts.recall(counts, false_rate))
    return IncidentIntervals(*(interval(np.concatenate(found)) for found in (precision, skill, recall)))


class _Ranked:
    """Cases by descending score, for the average precision of many weightings of their servers."""

    def __init__(self, scores: Doubles, happened: Flags, servers: Ints) -> None:
        order = np.argsort(-scores, kind="stable")
        self.servers, hits = servers[order], happened[order]
        self.last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        self.hits = hits.astype(np.float64)

    def average_precision(self, counts: Doubles) -> Doubles:
        """[draw] of server counts [draw, server]; NaN for a draw without an event."""
        found = np.full(len(counts), np.nan)
        for draw, count in enumerate(counts):
            weight = count[self.servers]
            hits, cases = np.cumsum(weight * self.hits)[self.last], np.cumsum(weight)[self.last]
            if hits[-1] > 0:
                share = np.divide(hits, cases, out=np.zeros_like(hits), where=cases > 0)
                found[draw] = (np.diff(hits, prepend=0.0) * share).sum() / hits[-1]
        return found


@dataclass(frozen=True)
class _Alerts:
    """Counts by threshold (ascending) and server: [threshold, server], events and days [server]."""

    detected: Doubles
    false: Doubles
    events: Doubles
    days: Doubles

    @classmethod
    def of(
        cls, scores: Doubles, ahead: Ints, censored: Flags, steps: Ints, horizon: int, false_rate: float, at: float
    ) -> _Alerts:
        filled = np.nan_to_num(scores, nan=-np.inf)
        distinct = np.unique(scores[~censored])
        lowest = threshold_at(scores, ahead, censored, steps, horizon, AROUND * false_rate)
        near = distinct[distinct >= lowest]
        places = np.linspace(0, len(near) - 1, min(THRESHOLDS, len(near))).round().astype(int)
        tried = np.unique([*near[places], at] if np.isfinite(at) else near[places])
        found = [alerts_by_server(filled >= one, ahead, censored, steps, horizon) for one in (*tried, np.inf)]
        return cls(
            np.stack([one.detected for one in found]).astype(np.float64),
            np.stack([one.false_alerts for one in found]).astype(np.float64),
            found[0].events.astype(np.float64),
            found[0].days,
        )

    def recall(self, counts: Doubles, false_rate: float) -> Doubles:
        """[draw]: the recall at the lowest threshold with at most so many false alerts per server-day."""
        events, days = counts @ self.events, counts @ self.days
        allowed = counts @ self.false.T <= false_rate * days[:, None]
        detected = np.take_along_axis(counts @ self.detected.T, allowed.argmax(axis=1)[:, None], axis=1)[:, 0]
        return np.asarray(np.divide(detected, events, out=np.full(len(counts), np.nan), where=events > 0))


def _skill(sums: Doubles) -> Doubles:
    """Brier skills [draw] of sums of squared errors, of events and of cases [draw, 3]."""
    error, events, cases = sums.T
    spread = events * (1 - np.divide(events, cases, out=np.zeros_like(cases), where=cases > 0))
    return np.asarray(1 - np.divide(error, spread, out=np.full_like(error, np.nan), where=spread > 0))
