"""Probabilities from quantiles, and their calibration."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fleetcast.risk.calibration import Calibration, Line, fit
from fleetcast.risk.probability import exceedance, incident_probabilities

LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
LIMIT = np.array([[0.9]])
UNIT = st.floats(0, 1, width=32)

paths = arrays(np.float32, (1, 1, 96, 7), elements=UNIT).map(lambda values: np.sort(values, axis=-1))
jumps = arrays(np.float32, (1, 1, 96, 7), elements=UNIT).map(lambda values: np.sort(values, axis=-1))


def constant(quantiles: list[float], steps: int = 96) -> np.ndarray:
    return np.tile(np.array(quantiles, dtype=np.float32), (1, 1, steps, 1))


def test_at_a_quantile_the_probability_is_the_rest_of_its_level():
    quantiles = constant([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], steps=1)
    for value, level in zip(quantiles[0, 0, 0], LEVELS, strict=True):
        assert exceedance(quantiles, LEVELS, np.array([[value]]))[0, 0, 0] == pytest.approx(1 - level)
    assert exceedance(quantiles, LEVELS, np.array([[0.35]]))[0, 0, 0] == pytest.approx(1 - 0.375)


def test_the_tail_is_right_for_an_exponential_distribution():
    quantiles = constant([-np.log(1 - level) for level in LEVELS], steps=1)
    for limit in (4.0, 5.0, 7.0):
        assert exceedance(quantiles, LEVELS, np.array([[limit]]))[0, 0, 0] == pytest.approx(np.exp(-limit), rel=1e-4)


def test_the_probability_of_a_normal_forecast_is_near_the_true_one():
    normal = NormalDist(0.5, 0.1)
    quantiles = constant([normal.inv_cdf(level) for level in LEVELS], steps=1)
    for limit in (0.35, 0.5, 0.58, 0.7):
        found = exceedance(quantiles, LEVELS, np.array([[limit]]))[0, 0, 0]
        assert found == pytest.approx(1 - normal.cdf(limit), abs=0.02)


def test_no_more_is_claimed_than_the_outermost_levels_say():
    assert exceedance(constant([1.0] * 7), LEVELS, LIMIT).max() == pytest.approx(0.98)
    assert exceedance(constant([0.5] * 7), LEVELS, LIMIT).max() == 0.0


def test_a_metric_without_threshold_has_no_risk_and_no_forecast_has_no_probability():
    assert (exceedance(constant([0.5] * 7), LEVELS, np.array([[np.inf]])) == 0).all()
    assert np.isnan(exceedance(constant([np.nan] * 7), LEVELS, LIMIT)).all()


def test_one_step_above_is_no_incident_and_three_in_a_row_are():
    quantiles = constant([0.1] * 7)
    quantiles[0, 0, 10:12] = 1.0
    assert incident_probabilities(quantiles, LEVELS, LIMIT).max() == 0.0
    quantiles[0, 0, 12] = 1.0
    np.testing.assert_allclose(incident_probabilities(quantiles, LEVELS, LIMIT)[0, 0], [0.0, 0.98, 0.98])


def test_an_onset_counts_from_the_step_that_it_begins_at():
    quantiles = constant([0.1] * 7)
    quantiles[0, 0, 5:] = 1.0  # step 6 is 30 min ahead
    assert incident_probabilities(quantiles, LEVELS, LIMIT)[0, 0, 0] == pytest.approx(0.98)
    quantiles[0, 0, 5] = 0.1
    assert incident_probabilities(quantiles, LEVELS, LIMIT)[0, 0, 0] == 0.0


def test_a_short_forecast_says_what_it_can():
    found = incident_probabilities(constant([1.0] * 7, steps=2), LEVELS, LIMIT)
    np.testing.assert_allclose(found[0, 0], [0.98] * 3)


@settings(deadline=None)
@given(paths)
def test_probabilities_are_probabilities_and_grow_with_the_horizon(quantiles):
    p = incident_probabilities(quantiles, LEVELS, LIMIT)
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p, axis=-1) >= 0).all()


@settings(deadline=None)
@given(paths, jumps)
def test_raising_a_forecast_never_lowers_a_probability(quantiles, raised):
    """Raised by at least as much at higher quantiles: shifted up, or wider upwards, or both."""
    before = incident_probabilities(quantiles, LEVELS, LIMIT)
    after = incident_probabilities(quantiles.astype(np.float64) + raised, LEVELS, LIMIT)
    assert (after >= before - 1e-12).all()


@settings(deadline=None)
@given(paths, arrays(np.float32, (1, 1, 96, 7), elements=UNIT))
def test_any_raise_counts_where_the_threshold_is_within_the_quantiles(quantiles, raised):
    higher = np.sort(np.maximum(quantiles, raised), axis=-1)
    reached = quantiles[..., -1] >= LIMIT[0, 0]
    before, after = (exceedance(values, LEVELS, LIMIT)[reached] for values in (quantiles, higher))
    assert (after >= before - 1e-12).all()


def drawn(slope: float, intercept: float, count: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    odds = random.normal(-2, 1.5, count)
    raw, true = (1 / (1 + np.exp(-value)) for value in (odds, intercept + slope * odds))
    return raw, random.random(count) < true


def test_many_events_find_the_line():
    line = fit({"8h": drawn(0.6, -1.0, 40_000)}).horizons["8h"]
    assert line.slope == pytest.approx(0.6, abs=0.05)
    assert line.intercept == pytest.approx(-1.0, abs=0.1)
    assert line.windows == 40_000
    assert line.events == drawn(0.6, -1.0, 40_000)[1].sum()


def test_calibrated_frequencies_are_what_they_say():
    raw, events = drawn(0.6, -1.0, 40_000)
    calibration = fit({"30m": (raw, events)})
    fresh, happened = drawn(0.6, -1.0, 40_000, seed=4)
    said = calibration.apply(np.stack([fresh, np.zeros_like(fresh), np.zeros_like(fresh)], axis=-1))[:, 0]
    for low, high in ((0.0, 0.05), (0.05, 0.1), (0.1, 0.3)):
        inside = (said >= low) & (said < high)
        assert said[inside].mean() == pytest.approx(happened[inside].mean(), abs=0.02)


def test_few_events_change_little():
    raw = np.full(20, 0.3)
    line = fit({"2h": (raw, np.arange(20) < 1)}).horizons["2h"]
    moved = Calibration(horizons={"2h": line}).apply(np.array([0.3, 0.3, 0.3]))[1]
    assert 0.2 < moved <= 0.3


def test_nothing_to_fit_on_is_the_identity():
    line = fit({"2h": (np.array([]), np.array([], dtype=bool))}).horizons["2h"]
    assert (line.slope, line.intercept) == (1.0, 0.0)
    raw = np.array([[0.0, 0.2, 0.9], [np.nan] * 3])
    np.testing.assert_array_equal(Calibration().apply(raw), raw)


lines = st.builds(Line, slope=st.floats(0.2, 5), intercept=st.floats(-6, 6))


@settings(deadline=None)
@given(
    st.fixed_dictionaries({"30m": lines, "2h": lines, "8h": lines}),
    arrays(np.float64, (20, 3), elements=st.floats(0, 1)).map(lambda values: np.sort(values, axis=1)),
)
def test_calibration_keeps_order_range_and_horizons(horizons, raw):
    calibrated = Calibration(horizons=horizons).apply(raw)
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated, axis=1) >= 0).all()
    ordered = Calibration(horizons=horizons).apply(np.sort(raw, axis=0))
    assert (np.diff(ordered, axis=0) >= 0).all()


def test_a_calibration_survives_a_manifest():
    calibration = fit({name: drawn(0.8, 0.1, 500) for name in ("30m", "2h", "8h")})
    assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration
