"""A cycle forecasts from the newest complete cell, once, and says what it skipped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from serve_app.schedule import STEP, due, is_overdue, newest_origin

SETTLE = timedelta(seconds=60)
NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)


def test_the_origin_is_the_start_of_the_newest_cell_that_has_ended_and_settled() -> None:
    assert newest_origin(NOON + SETTLE, SETTLE) == NOON - STEP
    assert newest_origin(NOON + SETTLE - timedelta(seconds=1), SETTLE) == NOON - 2 * STEP


def test_an_origin_is_forecast_once_and_the_next_time_is_known() -> None:
    now = NOON + timedelta(seconds=90)
    first = due(now, SETTLE, None)
    assert (first.origin, first.skipped) == (NOON - STEP, 0)
    again = due(now, SETTLE, first.origin)
    assert (again.origin, again.next_at) == (None, NOON + STEP + SETTLE)
    assert due(again.next_at, SETTLE, first.origin).origin == NOON


def test_steps_that_passed_during_a_slow_cycle_are_counted() -> None:
    assert due(NOON + 4 * STEP + SETTLE, SETTLE, NOON).skipped == 2


def test_a_clock_that_was_set_back_starts_again() -> None:
    assert due(NOON + SETTLE, SETTLE, NOON + 10 * STEP).origin == NOON - STEP


def test_a_cycle_is_overdue_after_two_missed_steps() -> None:
    assert not is_overdue(NOON + 3 * STEP + SETTLE, SETTLE, NOON)
    assert is_overdue(NOON + 4 * STEP + SETTLE, SETTLE, NOON)
    assert is_overdue(NOON - 4 * STEP, SETTLE, NOON)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.integers(0, 299))
def test_a_forecast_starts_in_the_future_or_in_the_running_cell(moment: datetime, settle_s: int) -> None:
    now, settle = moment.replace(tzinfo=UTC), timedelta(seconds=settle_s)
    origin = newest_origin(now, settle)
    assert origin + STEP + settle <= now < origin + 2 * STEP + settle
    assert due(now, settle, origin).next_at > now
