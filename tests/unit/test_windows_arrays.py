"""Dense arrays: what a table holds lies at its time and server, gaps are gaps, and the future can be cut away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.schema import MAINTENANCE, TIMESTAMP
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.errors import DatasetError
from fleetcast.windows.arrays import arrays_from_dataset, arrays_from_table

START = datetime(2026, 1, 5, 5, tzinfo=UTC)


def at(step):
    return START + timedelta(minutes=5 * step)


def table(cells, kind=TIMESTAMP):
    """Rows of {(server, step): cpu}."""
    return pa.table(
        {
            "server": pa.array([server for server, _ in cells], pa.string()),
            "profile": pa.array(
                ["database" if server.startswith("db") else "web_api" for server, _ in cells], pa.string()
            ),
            "timestamp": pa.array([at(step) for _, step in cells], TIMESTAMP).cast(kind),
            "state": pa.array(["healthy"] * len(cells), pa.string()),
            "cpu_utilization": pa.array(list(cells.values()), pa.float32()),
        }
    )


CELLS = st.dictionaries(
    st.tuples(st.sampled_from(["db1", "db2", "web1"]), st.integers(0, 50)),
    st.floats(0, 1, width=32),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(CELLS, st.sampled_from(["s", "ms", "us", "ns"]))
def test_each_value_lies_in_its_place_and_the_rest_is_a_gap(cells, unit):
    fleet = arrays_from_table(table(cells, pa.timestamp(unit, "UTC")))
    found = {
        (fleet.servers[row], int((fleet.timestamps[column] - START.timestamp()) // 300)): fleet.values[row, column, 0]
        for row, column in np.argwhere(~np.isnan(fleet.values[:, :, 0]))
    }
    assert found == {key: np.float32(value) for key, value in cells.items()}
    assert fleet.steps == max(step for _, step in cells) - min(step for _, step in cells) + 1


def test_a_dataset_read_back_has_its_values_on_the_grid(tmp_path):
    cells = {("db1", 0): 0.25, ("db1", 2): 0.5, ("web1", 1): 0.75}
    storage = Storage(tmp_path)
    part = write_part(storage, 0, table(cells), ["cpu_utilization"])
    write_manifest(storage, [part], ["cpu_utilization"], timezone="America/New_York")
    fleet = arrays_from_dataset(Dataset.open(tmp_path))
    assert (fleet.servers, fleet.profiles, fleet.timezone) == (
        ("db1", "web1"),
        ("database", "web_api"),
        "America/New_York",
    )
    np.testing.assert_array_equal(fleet.values[:, :, 0], np.float32([[0.25, np.nan, 0.5], [np.nan, 0.75, np.nan]]))


def test_rows_outside_the_asked_span_are_left_out():
    fleet = arrays_from_table(table({("db1", 0): 0.1, ("db1", 5): 0.2, ("db1", 9): 0.3}), at(4), at(6))
    np.testing.assert_array_equal(fleet.values[0, :, 0], np.float32([np.nan, 0.2, np.nan]))


def test_until_keeps_nothing_after_the_step():
    fleet = arrays_from_table(table({("db1", step): 0.1 for step in range(10)}))
    assert [fleet.until(index).steps for index in (9, 3, 0, -1, -2, -10)] == [10, 4, 1, 0, 0, 0]


def test_times_and_positions_are_each_others_inverse_and_off_grid_times_refused():
    fleet = arrays_from_table(table({("db1", 0): 0.1}))
    assert [fleet.index_of(fleet.time_at(index)) for index in (-3, 0, 400)] == [-3, 0, 400]
    with pytest.raises(DatasetError, match="grid"):
        fleet.index_of(START + timedelta(seconds=60))


def test_planned_maintenance_may_lie_in_the_future():
    windows = [{"server": "db1", "start": at(8), "end": at(10)}, {"server": "ghost", "start": at(0), "end": at(9)}]
    planned = pa.Table.from_pylist(windows, MAINTENANCE)
    fleet = arrays_from_table(table({("db1", 0): 0.1, ("web1", 3): 0.1}), maintenance=planned)
    assert np.argwhere(fleet.maintenance_mask(0, 12)).tolist() == [[0, 8], [0, 9]]


def test_metrics_that_the_fleet_lacks_are_missing_values():
    chosen = arrays_from_table(table({("db1", 0): 0.5})).select(["swap_used", "cpu_utilization"])
    assert np.isnan(chosen[0, 0, 0])
    assert chosen[0, 0, 1] == 0.5


def test_no_rows_need_a_span():
    with pytest.raises(DatasetError, match="no samples"):
        arrays_from_table(table({}))
    empty = arrays_from_table(table({}), at(0), at(3))
    assert empty.values.shape == (0, 4, 1)


def test_a_row_without_a_profile_is_of_the_unknown_one():
    rows = table({("db1", 0): 0.5})
    assert arrays_from_table(rows.set_column(1, "profile", pa.array([None], pa.string()))).profiles == ("unknown",)
