"""Simulating with Ray: the same bytes whatever the workers, parts kept after an interruption, nothing overwritten."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import timedelta
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
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    for workers in (1, 2, 7):
        simulate_dataset(SPEC, tmp_path / str(workers), shard_servers=1, workers=workers, progress=False)
    files = _bytes(tmp_path / "1")
    assert {"manifest.json", "incidents.parquet", "topology.parquet", "maintenance.parquet"} <= set(files)
    assert sum(name.startswith("part-") for name in files) == 12
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


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A real filesystem of 2 MiB, mounted with the options of the test's parameter."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size=2m{request.param}", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a filesystem")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(("small_disk", "told"), [("", "No space left"), (",ro", "Read-only")], indirect=["small_disk"])
def test_a_full_or_read_only_disk_is_told_in_one_line_and_nothing_is_left(small_disk: Path, told: str) -> None:
    large = FleetSpec(servers=60, hours=24 * 20)
    with pytest.raises(DatasetError, match=told) as caught:
        simulate_dataset(large, small_disk / "new" / "data", shard_servers=3, progress=False)
    assert "\n" not in str(caught.value)
    assert not list(small_disk.iterdir())


def test_a_failure_leaves_what_an_earlier_run_had_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    files = _bytes(out)
    for name in ("manifest.json", "part-00001.parquet", "part-00002.parquet"):
        (out / name).unlink()
    (out / "part-00001.parquet").mkdir()  # cannot be replaced by a file
    with pytest.raises(DatasetError, match="part-00001"):
        simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    (out / "part-00001.parquet").rmdir()
    assert (out / "part-00000.parquet").read_bytes() == files["part-00000.parquet"]
    assert not (out / "part-00002.parquet").exists()
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    assert _bytes(out) == files


def test_dirt_writes_arrivals_beside_the_parts_and_takes_them_along(tmp_path: Path) -> None:
    out, dirty = tmp_path / "out", SPEC.model_copy(update={"dirt": 0.1})
    simulate_dataset(dirty, out, shard_servers=4, progress=False)
    arrivals = {path.name: path.read_bytes() for path in (out / "arrivals").iterdir()}
    assert sorted(arrivals) == [f"part-0000{number}.parquet" for number in range(3)]
    simulate_dataset(dirty, tmp_path / "again", shard_servers=4, workers=1, progress=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / "again" / "arrivals").iterdir()} == arrivals
    simulate_dataset(SPEC, out, shard_servers=4, overwrite=True, progress=False)
    assert not (out / "arrivals").exists()


def test_a_scenario_is_in_the_dataset(tmp_path: Path) -> None:
    calm = FleetSpec(servers=25, hours=30, incidents_per_day=0)
    trouble = calm.model_copy(update={"scenario": "critical", "scenario_after": 10.0})
    simulate_dataset(trouble, tmp_path / "out", shard_servers=10, progress=False)
    incidents = Dataset.open(tmp_path / "out").incidents()
    assert incidents.num_rows >= 10
    first = min(row["precursor_start"] for row in incidents.to_pylist())
    assert first == trouble.start + timedelta(hours=10)


def test_a_part_of_another_simulation_is_not_taken_over(tmp_path: Path) -> None:
    out, other = tmp_path / "out", SPEC.model_copy(update={"seed": 77})
    simulate_dataset(other, tmp_path / "other", shard_servers=4, progress=False)
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    files = _bytes(out)
    (out / "part-00001.parquet").write_bytes((tmp_path / "other" / "part-00001.parquet").read_bytes())
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    assert _bytes(out) == files


def test_an_impossible_scenario_is_refused_before_anything_is_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    simulate_dataset(SPEC, out, shard_servers=4, progress=False)
    files = _bytes(out)
    web = FleetSpec(servers=4, hours=3, profiles=("web_api",), scenario="cascade")
    with pytest.raises(UsageError, match="cascade"):
        simulate_dataset(web, out, overwrite=True, progress=False)
    assert _bytes(out) == files


def test_progress_is_told_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    simulate_dataset(SPEC, tmp_path / "out", shard_servers=4)
    captured = capfd.readouterr()
    assert "12 of 12 servers" in captured.err
    assert "rows/s" in captured.err
    assert captured.out == ""
