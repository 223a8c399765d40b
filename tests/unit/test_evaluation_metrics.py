"""Forecast metrics and quantile levels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fleetcast.errors import UsageError
from fleetcast.evaluation.levels import at_levels, checked_levels
from fleetcast.evaluation.metrics import coverage, geometric_mean, mase, pinball, seasonal_scale, weighted_quantile_loss

NAN = float("nan")


def test_pinball_charges_a_low_forecast_by_the_level_and_a_high_one_by_the_rest():
    loss = pinball(np.array([1.0]), np.array([[0.0, 0.0, 3.0]]), (0.1, 0.9, 0.9))
    np.testing.assert_allclose(loss, [[0.1, 0.9, 0.2]])


@settings(deadline=None)
@given(arrays(np.float64, 31, elements=st.floats(-100, 100)))
def test_no_constant_beats_the_sample_quantile_in_pinball(sample):
    levels = (0.1, 0.5, 0.9)
    candidates = np.unique(sample)
    best = np.array([pinball(sample, np.full((31, 3), c), levels).sum(axis=0) for c in candidates]).min(axis=0)
    own = np.quantile(sample, levels, method="inverted_cdf")
    np.testing.assert_allclose(pinball(sample, np.tile(own, (31, 1)), levels).sum(axis=0), best, atol=1e-9)


def test_weighted_quantile_loss_of_the_median_is_the_relative_absolute_error():
    truth, median = np.array([1.0, 3.0, NAN]), np.array([[2.0], [1.0], [50.0]])
    assert weighted_quantile_loss(truth, median, (0.5,)) == pytest.approx(3 / 4)


def test_weighted_quantile_loss_does_not_depend_on_the_unit():
    random = np.random.default_rng(0)
    truth, quantiles, levels = random.random(50), np.sort(random.random((50, 3)), axis=1), (0.1, 0.5, 0.9)
    scaled = weighted_quantile_loss(truth * 1e9, quantiles * 1e9, levels)
    assert scaled == pytest.approx(weighted_quantile_loss(truth, quantiles, levels))


def test_nothing_known_gives_no_figure():
    unknown = np.array([NAN])
    assert np.isnan(weighted_quantile_loss(unknown, np.array([[1.0]]), (0.5,)))
    assert np.isnan(coverage(unknown, unknown, unknown))
    assert np.isnan(geometric_mean([]))


def test_mase_divides_by_the_seasonal_error_of_the_past_and_skips_gaps():
    past = np.array([0.0, 0.0, 2.0, NAN, 2.0, 6.0])
    assert seasonal_scale(past, season=2) == pytest.approx(1.0)  # known pairs: |2 - 0|, |2 - 2|
    assert mase(np.array([5.0, NAN]), np.array([2.0, 9.0]), past, season=2) == pytest.approx(3.0)


def test_mase_of_a_flat_past_does_not_exist():
    assert np.isnan(mase(np.array([5.0]), np.array([2.0]), np.zeros(600)))


def test_coverage_counts_the_edges_and_only_what_came():
    truth = np.array([1.0, 2.0, 3.0, NAN])
    assert coverage(truth, np.full(4, 1.0), np.full(4, 2.0)) == pytest.approx(2 / 3)


def test_geometric_mean_treats_twice_and_half_alike():
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


def test_levels_that_are_there_are_taken_as_they_are_and_others_are_interpolated():
    quantiles = np.array([1.0, 2.0, 6.0], dtype=np.float32)
    found = at_levels(quantiles, (0.1, 0.5, 0.9), (0.05, 0.1, 0.3, 0.7, 0.9, 0.99))
    np.testing.assert_allclose(found, [1, 1, 1.5, 4, 6, 6], rtol=1e-6)
    np.testing.assert_array_equal(at_levels(quantiles, (0.1, 0.5, 0.9), (0.1, 0.5, 0.9)), quantiles)


@pytest.mark.parametrize("levels", [(), (0.5, 0.5), (0.9, 0.1), (0.0, 0.5), (0.5, 1.0)])
def test_levels_that_make_no_sense_are_refused(levels):
    with pytest.raises(UsageError, match="between 0 and 1"):
        checked_levels(levels)
