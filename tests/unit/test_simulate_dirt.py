"""Dirt: samples that are lost, late, out of order or twice, the same ones whatever the shards and the span."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.validate import validate
from fleetcast.dataset.reader import Dataset
from fleetcast.simulate.dirt import LONGEST_GAP, RECEIVED, arrivals, lost
from fleetcast.simulate.simulator import simulate, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World
from fleetcast.sources.ingest import import_parquet

CLEAN = FleetSpec(servers=12, hours=96, seed=8)
DIRTY = CLEAN.model_copy(update={"dirt": 0.1})


def _arrivals() -> tuple[pa.Table, pa.Table]:
    """The samples of the dirty fleet, and how they arrived."""
    arrays, _ = simulate_arrays(World(DIRTY), range(DIRTY.servers))
    indices = dict(zip(arrays.servers, arrays.indices, strict=True))
    return arrays.table(), arrivals(arrays.table(), DIRTY.seed, indices, DIRTY.dirt)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5])
def test_any_share_can_be_asked_for(share: float) -> None:
    assert lost(3, range(100), 1000, 2000, share).mean() == pytest.approx(share, rel=0.04)


def test_the_asked_share_is_lost_in_short_gaps() -> None:
    gaps = lost(3, range(50), 1000, 2000, 0.1)
    assert gaps.mean() == pytest.approx(0.1, rel=0.1)
    ends = np.flatnonzero(np.diff(np.pad(gaps, ((0, 0), (1, 1))).astype(int), axis=1).ravel() < 0)
    begins = np.flatnonzero(np.diff(np.pad(gaps, ((0, 0), (1, 1))).astype(int), axis=1).ravel() > 0)
    assert np.median(ends - begins) <= LONGEST_GAP
    np.testing.assert_array_equal(gaps[20:, 500:900], lost(3, range(20, 50), 1500, 400, 0.1))


def test_what_is_not_lost_is_the_clean_fleet() -> None:
    clean, dirty = simulate(CLEAN), simulate(DIRTY)
    assert 0.85 < dirty.table.num_rows / clean.table.num_rows < 0.95
    assert validate(dirty.table).quarantined_rows == 0
    values = ["server", "timestamp", *METRIC_NAMES]
    joined = dirty.table.select(values).join(clean.table.select(values), values, join_type="inner")
    assert joined.num_rows == dirty.table.num_rows
    assert dirty.incidents.equals(clean.incidents)


def test_samples_arrive_late_twice_and_out_of_order() -> None:
    table, arrived = _arrivals()
    received = np.asarray(arrived[RECEIVED].cast(pa.int64()))
    seconds = np.asarray(arrived["timestamp"].cast(pa.int64()))
    assert (np.diff(received) >= 0).all()
    assert ((received - seconds >= 300) & (received - seconds < 330)).mean() > 0.75
    keys = arrived.group_by(["server", "timestamp"]).aggregate([([], "count_all")])
    assert keys.num_rows == table.num_rows
    assert pc.mean(pc.equal(keys["count_all"], 2)).as_py() == pytest.approx(0.1, abs=0.02)
    late = (received - seconds >= 600).mean()
    assert 0.1 < late < 0.25
    one = np.asarray(pc.equal(arrived["server"], table["server"][0]))
    assert (np.diff(seconds[one]) < 0).mean() > 0.05


def test_the_importer_makes_the_dataset_of_them_again(tmp_path: Path) -> None:
    table, arrived = _arrivals()
    (tmp_path / "in").mkdir()
    pa.parquet.write_table(arrived, tmp_path / "in" / "part-00000.parquet")
    mapping = Path(__file__).parents[2] / "examples" / "arrivals.yaml"
    import_parquet(tmp_path / "in", mapping, tmp_path / "out")
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.manifest.quarantined_rows == 0
    names = ["server", "profile", "timestamp", *METRIC_NAMES]
    imported = (
        pa.concat_tables(dataset.tables()).select(names).sort_by([("server", "ascending"), ("timestamp", "ascending")])
    )
    assert imported.equals(table.select(names))
