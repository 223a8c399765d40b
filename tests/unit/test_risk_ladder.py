"""Own limits, levels that do not flap, P(at least one), and sample paths."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.risk.assess import Risk
from fleetcast.risk.cycle import Watch
from fleetcast.risk.fleet import any_probability, fit_exponent, hazards_of_groups
from fleetcast.risk.hysteresis import HOLD_STEPS, Held, flaps
from fleetcast.risk.incidents import incident_steps
from fleetcast.risk.levels import LEVELS, level_codes
from fleetcast.risk.limits import critical_limits, server_limits
from fleetcast.risk.paths import normal_scores, path_probabilities, step_correlation
from fleetcast.risk.probability import run_probability
from fleetcast.risk.spread import Spread, arriving, fit_spread, spread
from fleetcast.windows.arrays import FleetArrays

METRIC = ("cpu_utilization",)
DAY = 288


def fleet_of(series: np.ndarray) -> FleetArrays:
    values = series.astype(np.float32)[:, :, None]
    names = tuple(f"s{number}" for number in range(len(series)))
    return FleetArrays(names, ("risk_analytics",) * len(series), METRIC, 0, values, MAINTENANCE.empty_table())


def batch_machine(days: int = 6) -> np.ndarray:
    """Full CPU for three hours each night."""
    day = np.full(DAY, 0.3)
    day[100:136] = 0.97
    return np.tile(day, days)


def test_a_batch_machine_that_is_full_every_night_is_healthy():
    calm = np.full(6 * DAY, 0.3)
    fleet = fleet_of(np.stack([batch_machine(), calm]))
    limits = server_limits(fleet.until(4 * DAY - 1), METRIC)
    assert limits[0, 0] > 1
    assert limits[1, 0] == critical_limits(fleet.profiles, METRIC)[1, 0]
    assert len(incident_steps(fleet, METRIC, limits)) == 0
    assert len(incident_steps(fleet, METRIC)) > 0


def test_one_long_incident_or_a_short_past_makes_no_limit_of_ones_own():
    once = np.full(6 * DAY, 0.3)
    once[500:540] = 0.99
    fleet = fleet_of(np.stack([once, batch_machine()]))
    profile = critical_limits(fleet.profiles, METRIC)
    assert server_limits(fleet, METRIC)[0, 0] == profile[0, 0]
    np.testing.assert_array_equal(server_limits(fleet.until(2 * DAY), METRIC), profile)


def held_levels(p_30m: list[float], p_8h: list[float] | None = None, open_: list[bool] | None = None) -> list[int]:
    held, found = Held.start(1), []
    for place, p in enumerate(p_30m):
        longer = p if p_8h is None else p_8h[place]
        held = held.step(np.array([p]), np.array([longer]), np.array([open_ is not None and open_[place]]))
        found.append(int(held.levels[0]))
    return found


def test_a_level_is_taken_at_once_and_left_after_a_while_below():
    assert held_levels([0.0, 0.8, 0.1, 0.1, 0.1]) == [3, 0, 0, 0, 3]


def test_a_probability_around_a_threshold_does_not_flap():
    around = [0.69, 0.71] * 10
    assert set(held_levels(around)[1:]) == {0}
    raw = level_codes(np.array(around), np.array(around), np.zeros(20, bool))
    assert flaps(raw[:, None]) > 10
    assert flaps(np.array(held_levels(around))[:, None]) == 0


def test_a_server_about_which_nothing_is_known_keeps_its_level_and_an_open_incident_is_p1():
    assert held_levels([0.8, np.nan, np.nan, np.nan, np.nan]) == [0] * 5
    assert held_levels([0.0, 0.0], open_=[False, True]) == [3, 0]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_held_level_is_never_below_what_the_probabilities_ask_for(series):
    raw = level_codes(np.array(series), np.array(series), np.zeros(len(series), bool))
    held = held_levels(series)
    assert all(kept <= asked for kept, asked in zip(held, raw, strict=True))
    if len(series) > HOLD_STEPS and max(series[-HOLD_STEPS:]) < 0.3:
        assert held[-1] == 3


def test_independent_servers_and_shared_fate():
    p = np.array([0.1, 0.2, np.nan])
    assert any_probability(p) == pytest.approx(1 - 0.9 * 0.8)
    assert any_probability(p, 0.5) < any_probability(p)
    assert np.isnan(any_probability(np.array([np.nan])))


def test_the_exponent_finds_how_much_servers_share():
    random = np.random.default_rng(0)
    for true in (0.4, 1.0):
        sums = random.uniform(0.05, 1.5, 4000)
        assert fit_exponent(sums, random.random(4000) < 1 - np.exp(-true * sums)) == pytest.approx(true, abs=0.08)
    assert fit_exponent(np.array([]), np.array([], bool)) == 1.0


def test_the_spread_finds_how_far_incidents_reach():
    random = np.random.default_rng(0)
    own, said = random.uniform(0.005, 0.05, 40_000), random.uniform(0, 1, (40_000, 1))
    since = np.where(random.random((40_000, 1)) < 0.5, np.nan, random.integers(0, 24, (40_000, 1)))
    comes = arriving(said, since, np.full((40_000, 1), 0.6))
    truth = Spread(reach=0.5, after=(0.8, 0.3, 0.1, 0.0))
    happened = (random.random(40_000) < spread(own, comes, truth)).astype(float)
    found = fit_spread(own, comes, happened, np.ones(40_000))
    assert found.reach == pytest.approx(0.5, abs=0.05)
    assert found.after == pytest.approx(truth.after, abs=0.1)
    nothing = arriving(np.zeros((40_000, 1)), np.full((40_000, 1), np.nan), np.full((40_000, 1), 0.6))
    assert fit_spread(own, nothing, happened, np.ones(40_000)) == Spread()


def test_fully_correlated_paths_are_the_comonotone_probability():
    exceeding = np.random.default_rng(0).uniform(0, 0.5, (3, 96))
    exceeding[:, 10:30] = 0.4
    found = path_probabilities(exceeding, np.full((96, 96), 1.0) + 1e-9 * np.eye(96), samples=20_000)
    np.testing.assert_allclose(found[:, 2], run_probability(exceeding).max(axis=1), atol=0.02)


def test_independent_steps_give_many_chances():
    exceeding = np.full((1, 96), 0.2)
    alone = path_probabilities(exceeding, np.eye(96), samples=4000)[0]
    together = path_probabilities(exceeding, 0.999 ** np.abs(np.subtract.outer(np.arange(96), np.arange(96))), 4000)[0]
    assert alone[0] < alone[1] < alone[2]
    assert alone[2] > together[2]


def test_scores_of_what_was_forecast_right_are_normal_and_show_their_memory():
    random = np.random.default_rng(0)
    noise = random.normal(size=(3000, 8))
    for step in range(1, 8):
        noise[:, step] = 0.8 * noise[:, step - 1] + 0.6 * noise[:, step]
    levels = np.linspace(0.02, 0.98, 49)
    quantiles = np.tile(np.quantile(random.normal(size=200_000), levels), (3000, 8, 1))
    scores = normal_scores(noise, quantiles, tuple(levels))
    assert abs(ndtr(scores).mean() - 0.5) < 0.02
    assert step_correlation(scores)[0, 1] == pytest.approx(0.8, abs=0.03)
    assert step_correlation(scores, autoregressive=True)[0, 2] == pytest.approx(0.64, abs=0.05)


def risk_of(server: str, p: float | None, open_: bool = False) -> Risk:
    code = level_codes(np.array([p or 0.0]), np.array([p or 0.0]), np.array([open_]))[0]
    return Risk(
        server=server, profile="generic", origin=datetime(2026, 1, 5, tzinfo=UTC), p_30m=p, p_2h=p, p_8h=p, open=open_,
        level=LEVELS[code], score=None, metric=None, metric_probabilities={}, breach_s=None, breach_low_s=None,
        breach_high_s=None, source="model", reason="",
    )  # fmt: skip


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30), st.integers(0, 5))
@settings(max_examples=50)
def test_a_watched_fleet_holds_each_servers_level_whatever_servers_are_beside_it(paths, seed):
    random, kept, found = np.random.default_rng(seed), Watch(), []
    for one, other in paths:
        risks = [risk_of("a", one), risk_of("b", other), risk_of(f"c{random.integers(9)}", 0.9)]
        risks, kept = kept.step([risks[place] for place in random.permutation(3)])
        found.append({risk.server: LEVELS.index(risk.level) for risk in risks})
    for place, name in enumerate("ab"):
        assert [levels[name] for levels in found] == held_levels([path[place] for path in paths])


def test_a_watched_fleet_counts_the_flaps_of_the_levels_it_shows():
    kept, shown = Watch(), []
    for place in range(300):
        risks, kept = kept.step([risk_of("a", 0.9 if place % 7 == 0 else 0.1)])
        shown.append([LEVELS.index(risks[0].level)])
    assert kept.flapped == flaps(np.array(shown)) > 0
    assert kept.flaps_per_server_day == pytest.approx(kept.flapped * DAY / 300)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_sample_of_the_servers_with_incidents_gives_the_same_exponent(share):
    random, sums, hits = np.random.default_rng(0), [], []
    for _ in range(200):
        p = random.uniform(0.0, 0.1, 400)
        outcome = (random.random(400) < p).astype(float)
        taken = random.random(400) < np.where(outcome > 0.5, share, 1.0)
        weights = np.where(outcome > 0.5, 1 / share, 1.0)[taken]
        found = hazards_of_groups(p[taken], outcome[taken], weights, (10, 30), random)
        sums.append(found[0])
        hits.append(found[1])
    assert fit_exponent(np.concatenate(sums), np.concatenate(hits)) == pytest.approx(1.0, abs=0.12)
