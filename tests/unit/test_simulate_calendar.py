"""The market's calendar: New York hours, exchange holidays, half-days, month-ends, daylight saving."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fleetcast.contract.vocabulary import PROFILES, STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.simulate.calendar import TIMEZONE, MarketTime, market_time
from fleetcast.simulate.profiles import COURSES, SMOOTH_STEPS, day_curve


def _from(text: str, hours: int = 24) -> MarketTime:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(TIMEZONE))
    return market_time(int(local.timestamp()), hours * STEPS_PER_HOUR)


@pytest.mark.parametrize(
    ("day", "trading"),
    [
        ("2026-01-05", True),
        ("2026-01-10", False),  # Saturday
        ("2026-01-19", False),  # Martin Luther King day
        ("2026-04-03", False),  # Good Friday
        ("2026-11-26", False),  # Thanksgiving
        ("2026-11-27", True),  # the half-day after it
    ],
)
def test_trading_days_are_the_exchanges(day: str, trading: bool) -> None:
    assert set(_from(day).trading) == {trading}


def test_a_half_day_closes_early() -> None:
    assert _from("2026-11-27T13:00", 1).hour[0] == pytest.approx(16.0)
    assert _from("2026-11-27T09:30", 1).hour[0] == pytest.approx(9.5)
    assert _from("2026-11-25T13:00", 1).hour[0] == pytest.approx(13.0)


def test_month_and_quarter_ends_are_marked_on_the_last_sessions() -> None:
    assert _from("2026-01-30").month_end[0] == 1.0
    assert _from("2026-01-28").month_end[0] == 0.0
    assert _from("2026-03-31").month_end[0] == 1.5


@pytest.mark.parametrize("day", ["2026-03-06", "2026-03-09", "2026-10-30", "2026-11-02"])
def test_hours_are_local_across_daylight_saving(day: str) -> None:
    assert _from(f"{day}T09:30", 1).hour[0] == pytest.approx(9.5)
    around_eight = _from(f"{day}T07:55", 1)
    np.testing.assert_array_equal(around_eight.busy[:2], [False, True])
    np.testing.assert_array_equal(around_eight.slot[:2], [95, 96])


@pytest.mark.parametrize("profile", PROFILES)
def test_a_normal_trading_day_has_mean_one(profile: str) -> None:
    curve = day_curve(COURSES[profile], _from("2026-01-06"))  # a Tuesday
    assert len(curve) == STEPS_PER_DAY - SMOOTH_STEPS + 1
    assert np.mean(curve) == pytest.approx(1.0, abs=0.03)


def test_profiles_peak_when_the_domain_says() -> None:
    market = _from("2026-01-06")
    hours = market.hour[SMOOTH_STEPS // 2 : -(SMOOTH_STEPS // 2)]
    peak = {profile: hours[np.argmax(day_curve(COURSES[profile], market))] for profile in PROFILES}
    assert 9 <= peak["web_api"] <= 10
    assert 7 <= peak["conductor_mgmt"] <= 9.5
    assert 16 <= peak["risk_analytics"] <= 19
    assert 15.5 <= peak["database"] <= 19
    assert peak["ml_compute"] >= 19 or peak["ml_compute"] <= 6
