"""A caller's samples reach the forecaster on a short axis, whatever times they have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.contract.schema import MAINTENANCE, TIMESTAMP
from serve_app.routes.on_demand import _laid_out
from serve_app.services import TooLargeError

STEPS = 100
NOW = datetime(2026, 1, 12, 10, tzinfo=UTC)
STEP = timedelta(minutes=5)


def samples(*times: datetime, servers: list[str] | None = None) -> pa.Table:
    return pa.table(
        {
            "server": servers or ["web1"] * len(times),
            "profile": ["web_api"] * len(times),
            "timestamp": pa.array([int(time.timestamp()) for time in times]).cast(TIMESTAMP),
            "cpu_utilization": pa.array([0.25] * len(times), pa.float32()),
        }
    )


@given(st.lists(st.integers(-500_000, 500_000), min_size=1, max_size=8, unique=True), st.integers(-500_000, 500_000))
def test_the_axis_ends_at_the_origin_and_is_no_longer_than_a_model_may_read(steps: list[int], end: int) -> None:
    times, origin = [NOW + step * STEP for step in steps], NOW + end * STEP
    fleet = _laid_out(samples(*times), origin, STEPS, MAINTENANCE.empty_table(), 1000)
    assert 1 <= fleet.steps <= STEPS
    assert fleet.time_at(fleet.steps - 1) == origin
    seen = {fleet.time_at(step) for step in range(fleet.steps) if fleet.values[0, step, 0] == 0.25}
    assert seen == {time for time in times if timedelta(0) <= origin - time < STEPS * STEP}


@pytest.mark.parametrize("year", [1, 9999])
def test_an_origin_at_the_end_of_time_is_only_a_forecast_without_samples(year: int) -> None:
    fleet = _laid_out(samples(NOW), datetime(year, 6, 1, tzinfo=UTC), STEPS, MAINTENANCE.empty_table(), 1000)
    assert (fleet.servers, fleet.steps <= STEPS) == (("web1",), True)


def test_a_few_samples_do_not_take_the_room_of_many() -> None:
    names = [f"web{number}" for number in range(11)]
    old = samples(NOW - (STEPS - 1) * STEP, *[NOW] * 10, servers=names)
    with pytest.raises(TooLargeError, match="11 servers over 100 steps have room for 1100 samples, at most 1000"):
        _laid_out(old, NOW, STEPS, MAINTENANCE.empty_table(), 1000)
    fleet = _laid_out(old, NOW, STEPS, MAINTENANCE.empty_table(), 1100)
    assert fleet.values.shape == (11, STEPS, 1)
