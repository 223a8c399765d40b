"""Scores of incident probabilities and alerts: pure functions of arrays. Point-adjusted scores are not among them.

`probability` and `happened` are [case]; alerts are [origin, server].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY

LEAD_STEPS = 3  # 15 minutes: an alert that comes later is of no use
CLIP = 1e-6
EDGES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def average_precision(scores: Doubles, happened: Flags) -> float:
    """Area under the precision-recall curve, sum of (R[n] - R[n-1]) P[n] over the distinct scores; NaN without events.

    Beside the prevalence, which a score that knows nothing reaches (Davis and Goadrich, ICML 2006).
    """
    if not happened.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(happened[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    recall, precision = hits[last] / hits[-1], hits[last] / (last + 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def brier(probability: Doubles, happened: Flags) -> float:
    """Mean of (p - y)^2 (Brier 1950)."""
    return float(((probability - happened) ** 2).mean())


def brier_skill(probability: Doubles, happened: Flags) -> float:
    """1 - Brier / Brier of the prevalence, which is what these cases had; NaN where all came or none."""
    share = float(happened.mean())
    spread = share * (1 - share)
    return 1 - brier(probability, happened) / spread if spread > 0 else float("nan")


def calibration_line(probability: Doubles, happened: Flags) -> tuple[float, float]:
    """Slope and intercept of logit P(y) = intercept + slope logit(p), by maximum likelihood (Cox 1958).

    A slope of 1 is right, below 1 the probabilities are too extreme, above too timid. NaN where all came or none.
    """
    if not 0 < happened.sum() < len(happened):
        return float("nan"), float("nan")
    odds, hit = logit(np.clip(probability, CLIP, 1 - CLIP)), happened.astype(np.float64)

    def loss(parameters: Doubles) -> tuple[float, Doubles]:
        score = parameters[0] + parameters[1] * odds
        residual = expit(score) - hit
        return float((np.logaddexp(0.0, score) - hit * score).mean()), np.array(
            [residual.mean(), (residual * odds).mean()]
        )

    best = minimize(loss, np.array([0.0, 1.0]), jac=True, method="BFGS").x
    return float(best[1]), float(best[0])


def reliability(probability: Doubles, happened: Flags) -> list[tuple[float, float, int]]:
    """Mean probability, share that came, and number of cases of each bin of `EDGES` that is not empty."""
    bins = np.clip(np.searchsorted(EDGES, probability, side="right") - 1, 0, len(EDGES) - 2)
    found = []
    for number in np.unique(bins):
        here = bins == number
        found.append((float(probability[here].mean()), float(happened[here].mean()), int(here.sum())))
    return found


@dataclass(frozen=True)
class ServerAlerts:
    """Counts of `alert_scores` by server, all [server], and the leads of the detected events in seconds."""

    events: npt.NDArray[np.int64]
    detected: npt.NDArray[np.int64]
    true_alerts: npt.NDArray[np.int64]
    false_alerts: npt.NDArray[np.int64]
    late_alerts: npt.NDArray[np.int64]
    days: Doubles
    leads: Doubles


@dataclass(frozen=True)
class AlertScores:
    """What alerts were worth. `events` are distinct incidents that could have been alerted on with the lead asked for.

    Leads are in seconds, from the first alert within the horizon to the onset; NaN without a detected event.
    """

    events: int
    detected: int
    true_alerts: int
    false_alerts: int
    late_alerts: int
    server_days: float
    leads: Doubles

    @property
    def recall(self) -> float:
        """Share of events with an alert at least `LEAD_STEPS` ahead."""
        return self.detected / self.events if self.events else float("nan")

    @property
    def precision(self) -> float:
        """Share of alerts that an onset followed with the lead asked for; late ones count on neither side."""
        alerts = self.true_alerts + self.false_alerts
        return self.true_alerts / alerts if alerts else float("nan")

    @property
    def false_rate(self) -> float:
        """False alerts per server-day."""
        return self.false_alerts / self.server_days if self.server_days else float("nan")


def alert_scores(
    alerts: Flags, ahead: npt.NDArray[np.int64], censored: Flags, steps: npt.NDArray[np.int64], horizon: int
) -> AlertScores:
    """Scores of alerts [origin, server] that say: an incident begins within `horizon` steps.

    `ahead` counts steps to the next onset (0 for none), `steps` are the origins as steps, ascending. Alerts of a server
    no further apart than the horizon are one alert. It is true when an onset follows one of its origins within the
    horizon and at least `LEAD_STEPS` later, late when only sooner, else false. An incident is an event when an
    uncensored origin lies so far before it. A case stands for the time up to the next origin, at most the horizon:
    that is what server-days are counted in.
    """
    found = alerts_by_server(alerts, ahead, censored, steps, horizon)
    return AlertScores(
        int(found.events.sum()), int(found.detected.sum()), int(found.true_alerts.sum()),
        int(found.false_alerts.sum()), int(found.late_alerts.sum()), float(found.days.sum()), found.leads,
    )  # fmt: skip


def alerts_by_server(
    alerts: Flags, ahead: npt.NDArray[np.int64], censored: Flags, steps: npt.NDArray[np.int64], horizon: int
) -> ServerAlerts:
    """The counts of `alert_scores` of each server."""
    known, total = ~censored, alerts.shape[1]
    soon = (ahead > 0) & (ahead <= horizon)
    useful = soon & (ahead >= LEAD_STEPS) & known
    rows, servers = np.nonzero(useful)
    onsets = steps[rows] + ahead[rows, servers]
    identities, of = np.unique(np.stack([servers, onsets], axis=1), axis=0, return_inverse=True)
    lead = np.zeros(len(identities))
    warned = alerts[rows, servers]
    np.maximum.at(lead, of.ravel()[warned], ahead[rows, servers][warned])
    counts = {kind: np.zeros(total, np.int64) for kind in ("true", "late", "false")}
    for server in np.flatnonzero((alerts & known).any(axis=0)):
        at = np.flatnonzero(alerts[:, server] & known[:, server])
        for run in np.split(at, np.flatnonzero(np.diff(steps[at]) > horizon) + 1):
            kind = "true" if useful[run, server].any() else "late" if soon[run, server].any() else "false"
            counts[kind][server] += 1
    stride = int(np.diff(steps).min()) if len(steps) > 1 else horizon
    days = known.sum(axis=0) * (min(stride, horizon) / STEPS_PER_DAY)
    return ServerAlerts(
        np.bincount(identities[:, 0], minlength=total), np.bincount(identities[lead > 0, 0], minlength=total),
        counts["true"], counts["false"], counts["late"], days, lead[lead > 0] * STEP_SECONDS,
    )  # fmt: skip


def threshold_at(
    scores: Doubles,
    ahead: npt.NDArray[np.int64],
    censored: Flags,
    steps: npt.NDArray[np.int64],
    horizon: int,
    false_rate: float,
) -> float:
    """The lowest threshold (alert at or above it) with at most so many false alerts per server-day; inf for none.

    Found by bisection over the distinct scores [origin, server].
    """
    candidates = np.unique(scores[~censored & ~np.isnan(scores)])
    low, high = 0, len(candidates)  # candidates[high:] are allowed
    while low < high:
        middle = (low + high) // 2
        alerts = np.nan_to_num(scores, nan=-np.inf) >= candidates[middle]
        if alert_scores(alerts, ahead, censored, steps, horizon).false_rate <= false_rate:
            high = middle
        else:
            low = middle + 1
    return float(candidates[low]) if low < len(candidates) else float("inf")
