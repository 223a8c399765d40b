"""Intervals of incident figures: servers are drawn, each with all its origins."""

from __future__ import annotations

import numpy as np
import pytest

from fleetcast.evaluation.bootstrap import draws_of, interval
from fleetcast.evaluation.incident_bootstrap import incident_intervals
from fleetcast.evaluation.incident_scores import (
    alert_scores,
    average_precision,
    brier_skill,
    threshold_at,
)

HORIZON, RATE = 96, 0.05
STEPS = np.arange(20) * HORIZON


def cases_of(servers: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, steps ahead, censored; all [origin, server]."""
    random = np.random.default_rng(seed)
    shape = (len(STEPS), servers)
    ahead = np.where(random.random(shape) < 0.08, random.integers(3, HORIZON + 1, shape), 0)
    said = 1 / (1 + np.exp(2.5 - 4 * (ahead > 0) + noise * random.normal(size=shape)))
    return said.round(2), ahead, random.random(shape) < 0.1  # rounded: equal scores occur


def intervals_of(said: np.ndarray, ahead: np.ndarray, censored: np.ndarray, draws: int = 1000):
    bound = threshold_at(said, ahead, censored, STEPS, HORIZON, RATE)
    return incident_intervals(said, ahead, censored, STEPS, HORIZON, RATE, bound, draws)


def test_intervals_are_those_of_fleets_made_of_the_drawn_servers() -> None:
    said, ahead, censored = cases_of(12, 1.5)
    said[3, 4] = np.nan
    censored[3, 4] = True
    found = intervals_of(said, ahead, censored, 40)
    precision, skill, recall = [], [], []
    for counts in np.concatenate(list(draws_of(12, 40))):
        drawn = np.repeat(np.arange(12), counts.astype(int))
        parts = said[:, drawn], ahead[:, drawn], censored[:, drawn]
        happened, known = parts[1] > 0, ~parts[2]
        precision.append(average_precision(parts[0][known], happened[known]))
        skill.append(brier_skill(parts[0][known], happened[known]))
        bound = threshold_at(*parts, STEPS, HORIZON, RATE)
        recall.append(alert_scores(np.nan_to_num(parts[0], nan=-np.inf) >= bound, *parts[1:], STEPS, HORIZON).recall)
    assert found.auprc == pytest.approx(interval(np.array(precision)))
    assert found.brier_skill == pytest.approx(interval(np.array(skill)))
    assert found.recall == pytest.approx(interval(np.array(recall)), abs=0.03)


def test_servers_that_are_all_alike_leave_no_doubt() -> None:
    said, ahead, censored = (np.repeat(one, 30, axis=1) for one in cases_of(1, 1.5, seed=2))
    found = intervals_of(said, ahead, censored)
    known = ~censored
    figure = average_precision(said[known], ahead[known] > 0)
    assert found.auprc == pytest.approx((figure, figure))
    assert found.recall is not None
    assert found.recall[0] == found.recall[1]


def test_more_servers_make_narrower_intervals_around_the_figure() -> None:
    widths = []
    for servers in (30, 480):
        said, ahead, censored = cases_of(servers, 1.5)
        found = intervals_of(said, ahead, censored, 300)
        known = ~censored
        assert found.auprc is not None
        assert found.auprc[0] < average_precision(said[known], ahead[known] > 0) < found.auprc[1]
        widths.append(found.auprc[1] - found.auprc[0])
    assert widths[1] < widths[0] / 2


def test_without_an_incident_there_is_no_interval() -> None:
    said, ahead, censored = cases_of(5, 1.0)
    found = intervals_of(said, np.zeros_like(ahead), censored)
    assert (found.auprc, found.brier_skill, found.recall) == (None, None, None)
