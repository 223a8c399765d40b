"""Simulating with Ray: the same bytes whatever the workers, parts kept after an interruption, nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_part
from fleetcast.errors import DatasetError, UsageError
from fleetcast.simulate.shards import simulate_dataset
from fleetcast.simulate.simulator import simulate
from fleetcast.simulate.spec import FleetSpec
from fleetcast.windows.arrays import arrays_from_dataset

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
SPEC = FleetSpec(servers=12, hours=30, seed=4, incidents_per_day=0.5)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2, 7):
        simulate_dataset(SPEC, tmp_path / str(workers), shard_servers=4, workers=workers, progress=False)
    files = _bytes(tmp_path / "1")
    assert {"manifest.json", "incidents.parquet", "topology.parquet", "maintenance.parquet"} <= set(files)
    assert sum(name.startswith("part-") for name in files) == 3
    assert files == _bytes(tmp_path / "2") == _bytes(tmp_path / "7")


def test_the_dataset_holds_the_fleet(tmp_path: Path) -> None:
    manifest = simulate_dataset(SPEC, tmp_path / "out", shard_servers=5, progress=False)
    dataset, whole = Dataset.open(tmp_path / "out"), simulate(SPEC)
    assert dataset.damaged_parts() == []
    assert manifest.rows == whole.table.num_rows
    assert dataset.incidents().equals(whole.incidents)
    assert dataset.maintenance().equals(whole.maintenance)
    assert dataset.topology().equals(whole.topology)
    assert arrays_from_dataset(dataset).steps == SPEC.steps
    assert len(manifest.servers) == SPEC.servers


def test_an_interrupted_run_is_finished_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out"
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    files = _bytes(out)
    kept = (out / "part-00000.parquet").stat().st_mtime_ns
    (out / "manifest.json").unlink()
    (out / "part-00001.parquet").unlink()
    (out / "part-00002.parquet").write_bytes(files["part-00002.parquet"][:1000])
    (out / ".part-00001.parquet.0123.partial").write_bytes(b"half")
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    assert _bytes(out) == files
    assert (out / "part-00000.parquet").stat().st_mtime_ns == kept


def test_another_dataset_is_not_touched_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    (out / "notes.txt").write_text("mine")
    files = _bytes(out)
    other = SPEC.model_copy(update={"seed": 5})
    with pytest.raises(DatasetError, match="another dataset"):
        simulate_dataset(other, out, progress=False)
    assert _bytes(out) == files
    manifest = simulate_dataset(other, out, overwrite=True, progress=False)
    assert Dataset.open(out).manifest == manifest
    assert len(manifest.parts) == 1
    assert "part-00002.parquet" not in _bytes(out)
    assert (out / "notes.txt").read_text() == "mine"


def test_an_imported_dataset_is_in_the_way_too(tmp_path: Path) -> None:
    write_part(Storage(tmp_path), 0, simulate(SPEC, [0]).table, METRIC_NAMES)
    with pytest.raises(DatasetError, match="another dataset"):
        simulate_dataset(SPEC, tmp_path, progress=False)


def test_wrong_arguments_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        simulate_dataset(SPEC, tmp_path / "out", shard_servers=0)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DatasetError):
        simulate_dataset(SPEC, tmp_path / "file" / "out", progress=False)
    assert (tmp_path / "file").read_text() == "no folder"


def test_progress_is_told_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    simulate_dataset(SPEC, tmp_path / "out", shard_servers=4)
    captured = capfd.readouterr()
    assert "12 of 12 servers" in captured.err
    assert "rows/s" in captured.err
    assert captured.out == ""
