"""Levels, scores and the risk of a server."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.assess import NO_THRESHOLD, assess, fleet_probability
from fleetcast.risk.calibration import Calibration, Line
from fleetcast.risk.levels import level_codes, scores

ORIGIN = datetime(2026, 1, 5, tzinfo=UTC)
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
METRICS = ("cpu_utilization", "memory_used")
CALM = [0.1, 0.15, 0.2, 0.25, 0.3]


def forecast_of(values: np.ndarray, metrics=METRICS, sources=None, reasons=None) -> ForecastArrays:
    servers = tuple(f"web{number}" for number in range(len(values)))
    return ForecastArrays(
        servers,
        ("web_api",) * len(values),
        metrics,
        LEVELS,
        ORIGIN,
        values.astype(np.float32),
        sources or ("model",) * len(values),
        reasons or ("",) * len(values),
    )


def calm(servers: int = 1, metrics: int = 2) -> np.ndarray:
    return np.tile(np.array(CALM), (servers, metrics, 96, 1))


def closed(forecast: ForecastArrays) -> np.ndarray:
    return np.zeros((len(forecast.servers), len(forecast.metrics)), dtype=bool)


def ladder(p_30m: float, p_8h: float, is_open: bool = False) -> tuple[int, float]:
    arguments = (np.array([p_30m]), np.array([p_8h]), np.array([is_open]))
    return int(level_codes(*arguments)[0]), float(scores(*arguments)[0])


@pytest.mark.parametrize(
    ("p_30m", "p_8h", "score"),
    [(0.0, 0.0, 0), (0.1, 0.5, 40), (0.4, 0.6, 70), (0.7, 0.7, 85), (0.55, 0.6, 77.5), (0.1, 0.25, 20), (1.0, 1.0, 95)],
)
def test_the_score_goes_through_its_points(p_30m, p_8h, score):
    assert ladder(p_30m, p_8h)[1] == pytest.approx(score)


@pytest.mark.parametrize(
    ("p_30m", "p_8h", "is_open", "level"),
    [
        (0.71, 0.8, False, 0),
        (0.0, 0.0, True, 0),
        (0.7, 0.8, False, 1),
        (0.41, 0.45, False, 1),
        (0.4, 0.51, False, 2),
        (0.4, 0.5, False, 3),
    ],
)
def test_levels_follow_from_the_probabilities(p_30m, p_8h, is_open, level):
    assert ladder(p_30m, p_8h, is_open)[0] == level


edges = st.sampled_from([0.0, 0.4, 0.5, 0.7, 1.0] + [float(np.nextafter(p, 1)) for p in (0.4, 0.5, 0.7)])
probabilities = st.one_of(st.floats(0, 1), edges)
pairs = st.tuples(probabilities, probabilities).map(lambda pair: (min(pair), max(pair)))


@settings(deadline=None)
@given(pairs, st.booleans())
def test_a_score_never_says_another_level(pair, is_open):
    level, score = ladder(*pair, is_open)
    assert 0 <= score <= 100
    assert level == (0 if score > 85 else 1 if score > 70 else 2 if score > 40 else 3)
    if is_open:
        assert score >= 95


@settings(deadline=None)
@given(pairs, pairs, st.booleans(), st.booleans())
def test_a_higher_probability_never_scores_lower(one, other, open_one, open_other):
    low = (min(one[0], other[0]), min(one[1], other[1]), open_one and open_other)
    high = (max(one[0], other[0]), max(one[1], other[1]), open_one or open_other)
    assert ladder(*low)[1] <= ladder(*high)[1]
    assert ladder(*low)[0] >= ladder(*high)[0]


def test_a_calm_server_is_p4_and_has_no_breach():
    risk = assess(forecast_of(calm()), np.zeros((1, 2), dtype=bool))[0]
    assert (risk.level, risk.open, risk.source) == ("P4", False, "model")
    assert risk.p_8h < 0.01
    assert risk.breach_s is risk.breach_low_s is risk.breach_high_s is None
    assert set(risk.metric_probabilities) == set(METRICS)


def test_a_growing_metric_drives_the_risk_and_says_when():
    values = calm()
    growth = np.linspace(0, 1, 96)[:, None]
    values[0, 1] = np.array([0.4, 0.45, 0.5, 0.55, 0.6]) + growth
    forecast = forecast_of(values)
    risk = assess(forecast, closed(forecast))[0]
    assert risk.metric == "memory_used"
    assert risk.level == "P3"
    assert risk.p_30m < 0.01 < risk.p_2h < risk.p_8h
    assert risk.p_8h == risk.metric_probabilities["memory_used"]
    medians = values[0, 1, :, 2].astype(np.float32)
    assert risk.breach_s == 300 * (np.flatnonzero(medians >= np.float32(0.95))[0] + 1)
    assert risk.breach_low_s < risk.breach_s < risk.breach_high_s


def test_an_open_incident_is_p1_whatever_the_forecast():
    forecast = forecast_of(calm())
    risk = assess(forecast, np.array([[False, True]]))[0]
    assert (risk.level, risk.open, risk.metric, risk.breach_s) == ("P1", True, "memory_used", 0.0)
    assert risk.score >= 95


def test_a_server_without_a_forecast_gets_no_numbers_but_the_reason():
    forecast = forecast_of(np.full((1, 2, 96, 5), np.nan), sources=("none",), reasons=("no sample for 3 days",))
    risk = assess(forecast, closed(forecast))[0]
    assert (risk.p_30m, risk.p_2h, risk.p_8h, risk.score, risk.metric) == (None,) * 5
    assert (risk.level, risk.reason, risk.metric_probabilities) == ("P4", "no sample for 3 days", {})
    assert fleet_probability([risk]) == {"p_any_30m": None, "p_any_8h": None}


def test_a_server_without_a_forecast_whose_incident_is_open_is_not_hidden():
    forecast = forecast_of(np.full((1, 2, 96, 5), np.nan), sources=("none",), reasons=("too short a history",))
    risk = assess(forecast, np.array([[True, False]]))[0]
    assert (risk.level, risk.metric, risk.p_8h, risk.reason) == ("P1", "cpu_utilization", None, "too short a history")


def test_a_metric_without_forecast_is_left_out_and_the_others_count():
    values = calm()
    values[0, 0] = np.nan
    values[0, 1] = 0.99
    forecast = forecast_of(values, sources=("fallback",), reasons=("cpu_utilization: 10% observed",))
    risk = assess(forecast, closed(forecast))[0]
    assert list(risk.metric_probabilities) == ["memory_used"]
    assert (risk.level, risk.source) == ("P1", "fallback")


def test_metrics_without_a_threshold_give_no_probability_and_say_why():
    forecast = forecast_of(calm(metrics=1), metrics=("network_receive_bytes",))
    risk = assess(forecast, closed(forecast))[0]
    assert (risk.p_8h, risk.level, risk.reason) == (None, "P4", NO_THRESHOLD)


def test_the_calibration_is_applied_to_servers_and_metrics():
    values = calm()
    values[0, 0, :, 4] = 0.96
    forecast = forecast_of(values)
    plain = assess(forecast, closed(forecast))[0]
    lower = Calibration(horizons={name: Line(intercept=-2.0) for name in ("30m", "2h", "8h")})
    calibrated = assess(forecast, closed(forecast), lower)[0]
    assert calibrated.p_8h < plain.p_8h
    assert calibrated.p_8h == calibrated.metric_probabilities["cpu_utilization"]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_risk_agrees_with_itself(seed):
    random = np.random.default_rng(seed)
    values = np.sort(random.normal(random.uniform(0, 1.2, (6, 2, 1, 1)), 0.2, (6, 2, 96, 5)), axis=-1)
    forecast = forecast_of(values)
    open_ = random.random((6, 2)) < 0.1
    for risk in assess(forecast, open_):
        assert 0 <= risk.p_30m <= risk.p_2h <= risk.p_8h <= 1
        assert risk.p_8h == max(risk.metric_probabilities.values())
        known = [seconds for seconds in (risk.breach_low_s, risk.breach_s, risk.breach_high_s) if seconds is not None]
        assert known == sorted(known)
        assert all(seconds <= 96 * 300 for seconds in known)


def test_the_fleet_probability_is_that_of_independent_servers_without_an_open_incident():
    values = calm(servers=3)
    values[:, 0, :, 4] = 0.95
    forecast = forecast_of(values)
    open_ = np.zeros((3, 2), dtype=bool)
    open_[2, 0] = True
    risks = assess(forecast, open_)
    expected = 1 - (1 - risks[0].p_8h) * (1 - risks[1].p_8h)
    assert fleet_probability(risks)["p_any_8h"] == pytest.approx(expected)


def test_a_short_forecast_says_nothing_of_8_h_unless_it_was_calibrated_to() -> None:
    """Four hours must not be shown as eight."""
    quantiles = np.tile(np.linspace(0.5, 1.2, 7, dtype=np.float32), (1, 1, 48, 1))
    forecast = ForecastArrays(
        ("a",),
        ("generic",),
        ("cpu_utilization",),
        (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98),
        ORIGIN,
        quantiles,
        ("model",),
        ("",),
    )
    closed = np.zeros((1, 1), dtype=bool)
    (raw,) = assess(forecast, closed)
    assert raw.p_2h is not None
    assert raw.p_8h is None
    assert raw.metric_probabilities == {}
    (fitted,) = assess(forecast, closed, Calibration(horizons={"8h": Line(windows=10)}))
    assert fitted.p_8h is not None
