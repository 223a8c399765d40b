"""The ring in memory says exactly what was put in, for the hours that it keeps."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.contract.schema import TIMESTAMP
from serve_app.ring import Ring

START = 1_768_212_000
STEPS = 6

Sample = tuple[str, int, float]


def table(rows: list[Sample], metric: str = "cpu_utilization", profile: str = "generic") -> pa.Table:
    seconds = [START + 300 * step for _, step, _ in rows]
    return pa.table(
        {
            "server": pa.array([server for server, _, _ in rows], pa.string()),
            "profile": pa.array([profile] * len(rows), pa.string()),
            "timestamp": pc.cast(pa.array(seconds, pa.int64()), TIMESTAMP),
            metric: pa.array([value for _, _, value in rows], pa.float64()),
        }
    )


SAMPLES = st.tuples(
    st.sampled_from(["a", "b", "c"]), st.integers(0, 20), st.floats(0, 1, width=32, allow_subnormal=False)
)


@given(st.lists(st.lists(SAMPLES, min_size=1, max_size=5), min_size=1, max_size=8))
def test_a_window_holds_the_last_value_of_each_cell_that_is_kept(batches: list[list[Sample]]) -> None:
    ring, truth, newest = Ring(STEPS), dict[tuple[str, int], float](), -1
    for batch in batches:
        ring.put(table(batch))
        newest = max([newest, *(step for _, step, _ in batch)])
        for server, step, value in batch:
            if step > newest - STEPS:
                truth[server, step] = value
    fleet = ring.window(START + 300 * newest, STEPS)
    for row, server in enumerate(fleet.servers):
        for column in range(STEPS):
            expected = truth.get((server, newest - STEPS + 1 + column), np.nan)
            np.testing.assert_equal(float(fleet.values[row, column, 0]), expected)


def test_a_gap_longer_than_the_ring_leaves_nothing_of_before() -> None:
    ring = Ring(STEPS)
    ring.put(table([("a", step, 0.5) for step in range(STEPS)]))
    ring.put(table([("a", 100, 0.7)]))
    values = ring.window(START + 300 * 100, STEPS).values[0, :, 0]
    assert np.isnan(values[:-1]).all()
    assert values[-1] == np.float32(0.7)


def test_a_late_row_replaces_the_whole_earlier_one() -> None:
    ring = Ring(STEPS)
    ring.put(table([("a", 0, 0.5)]))
    ring.put(table([("a", 0, 0.4)], metric="memory_used"))
    fleet = ring.window(START, 1)
    assert fleet.metrics == ("cpu_utilization", "memory_used")
    np.testing.assert_equal(fleet.values[0, 0], np.array([np.nan, 0.4], np.float32))


def test_the_profile_is_that_of_the_newest_sample() -> None:
    ring = Ring(STEPS)
    ring.put(table([("a", 3, 0.5)], profile="database"))
    ring.put(table([("a", 1, 0.5)], profile="generic"))
    assert ring.profile_of("a") == "database"
    assert ring.last_sample("a") == START + 900
    assert ring.profile_of("nobody") is None


def test_a_server_without_a_sample_in_the_kept_hours_is_dropped_and_the_others_stay() -> None:
    ring = Ring(STEPS)
    ring.put(table([("gone", 0, 0.1), ("a", 1, 0.2), ("b", STEPS, 0.3)]))
    assert ring.drop_silent() == 1
    assert ring.drop_silent() == 0
    assert ring.profile_of("gone") is None
    ring.put(table([("c", STEPS, 0.4), ("a", STEPS, 0.5)]))
    fleet = ring.window(START + 300 * STEPS, STEPS)
    assert fleet.servers == ("a", "b", "c")
    np.testing.assert_equal(fleet.values[:, -1, 0], np.array([0.5, 0.3, 0.4], np.float32))
    assert fleet.values[0, 0, 0] == np.float32(0.2)


def test_a_window_reaches_beyond_what_is_kept_as_gaps() -> None:
    ring = Ring(STEPS)
    ring.put(table([("a", 0, 0.5)]))
    fleet = ring.window(START + 600, 4)
    assert fleet.time_at(3) == datetime.fromtimestamp(START + 600, UTC)
    np.testing.assert_equal(fleet.values[0, :, 0], np.array([np.nan, 0.5, np.nan, np.nan], np.float32))
