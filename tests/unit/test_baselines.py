"""Baselines: the untrained rivals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.model.baselines import BASELINES

LEVELS = (0.1, 0.5, 0.9)


def past_of(*series: list[float]) -> np.ndarray:
    return np.array(series, dtype=np.float32)


def test_the_rivals_are_the_documented_ones():
    assert list(BASELINES) == [
        "naive",
        "seasonal_naive",
        "constant_quantiles",
        "quantiles_last_4h",
        "quantiles_last_24h",
        "residual_floor",
    ]


def test_naive_repeats_the_last_value_and_carries_it_over_a_gap():
    forecast = BASELINES["naive"](past_of([1, 2, 3], [4, 5, np.nan]), 2, LEVELS)
    assert forecast.shape == (2, 2, 3)
    assert (forecast[0] == 3).all()
    assert (forecast[1] == 5).all()


def test_seasonal_naive_repeats_the_same_time_of_the_last_day():
    day = np.arange(288, dtype=np.float32)
    past = np.concatenate([day + 1000, day])[None, :]
    forecast = BASELINES["seasonal_naive"](past, 300, LEVELS)
    np.testing.assert_array_equal(forecast[0, :, 1], np.concatenate([day, day[:12]]))


def test_seasonal_naive_without_a_day_of_history_repeats_the_last_value():
    forecast = BASELINES["seasonal_naive"](past_of([7, 8]), 3, LEVELS)
    assert (forecast == 8).all()


@pytest.mark.parametrize(("name", "steps"), [("quantiles_last_4h", 48), ("quantiles_last_24h", 288)])
def test_recent_quantiles_see_their_hours_only(name, steps):
    past = np.random.default_rng(1).random((2, 600), dtype=np.float32)
    forecast = BASELINES[name](past, 4, LEVELS)
    expected = np.quantile(past[:, -steps:], LEVELS, axis=1).T
    np.testing.assert_allclose(forecast, np.repeat(expected[:, None], 4, axis=1), rtol=1e-6)


def test_constant_quantiles_are_those_of_the_values_that_came():
    past = np.random.default_rng(2).random((3, 500), dtype=np.float32)
    past[past < 0.2] = np.nan
    forecast = BASELINES["constant_quantiles"](past, 1, LEVELS)
    np.testing.assert_allclose(forecast[:, 0], np.nanquantile(past, LEVELS, axis=1).T, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "residual_floor"])
def test_a_series_without_any_value_has_no_forecast(name):
    assert np.isnan(BASELINES[name](np.full((1, 400), np.nan, np.float32), 3, LEVELS)).all()


@pytest.mark.parametrize("name", list(BASELINES))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), gaps=st.floats(0, 0.9))
def test_quantiles_never_cross_and_every_series_stands_alone(name, seed, gaps):
    random = np.random.default_rng(seed)
    past = random.lognormal(size=(4, 400)).astype(np.float32)
    past[random.random(past.shape) < gaps] = np.nan
    past[:, 0] = 1.0
    forecast = BASELINES[name](past, 12, LEVELS)
    assert (np.diff(forecast, axis=2) >= 0).all()
    np.testing.assert_array_equal(BASELINES[name](past[2:3], 12, LEVELS), forecast[2:3])
