"""A dataset on disk: what was written is read, and `check_dataset` finds what is wrong with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetcast.contract.rows import states_of_rows
from fleetcast.contract.schema import MAINTENANCE, REMEDIATIONS, TIMESTAMP, TOPOLOGY, sample_schema
from fleetcast.contract.vocabulary import state_names
from fleetcast.dataset.check import STATE_RULE, check_dataset
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import describe_part, write_manifest, write_part
from fleetcast.errors import DatasetError

START = datetime(2026, 1, 5, 5, tzinfo=UTC)
METRICS = ("cpu_utilization", "memory_used")


def samples(servers=("db1", "web1"), steps=30, maintenance=None):
    rng = np.random.default_rng(7)
    count = len(servers) * steps
    table = pa.table(
        {
            "server": pa.array(np.repeat(servers, steps), pa.string()),
            "profile": pa.repeat("web_api", count),
            "timestamp": pa.array([START + timedelta(minutes=5 * k) for k in range(steps)] * len(servers), TIMESTAMP),
            "cpu_utilization": pa.array(rng.uniform(0, 1.1, count).astype(np.float32)),
            "memory_used": pa.array(rng.uniform(0, 1, count).astype(np.float32)),
        }
    )
    return with_states(table, maintenance)


def with_states(table, maintenance=None):
    planned = MAINTENANCE.empty_table() if maintenance is None else maintenance
    states = pa.array(state_names(states_of_rows(table, planned, "UTC")), pa.string())
    return table.append_column("state", states).select(sample_schema(METRICS).names)


def soft(*tables):
    return {"cpu_utilization": sum(int((t["cpu_utilization"].to_numpy() > 1).sum()) for t in tables)}


@pytest.fixture
def folder(tmp_path):
    storage = Storage(tmp_path / "fleet")
    storage.create()
    first, second = samples(("db1", "web1")), samples(("web2",))
    parts = [write_part(storage, number, table, METRICS) for number, table in enumerate((first, second))]
    write_manifest(storage, parts, METRICS, soft_range_counts=soft(first, second))
    return tmp_path / "fleet"


def rewrite(folder, change, digest=True):
    """Put changed rows in the first part, with a manifest that agrees (`digest`) or does not."""
    storage = Storage(folder)
    table = change(Dataset.open(folder).read(Dataset.open(folder).manifest.parts[0]))
    content = storage.write_table("part-00000.parquet", table)
    if digest:
        manifest = Dataset.open(folder).manifest
        parts = [describe_part("part-00000.parquet", table, content), *manifest.parts[1:]]
        write_manifest(storage, parts, METRICS)


def replaced(table, column, row, value):
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(
        table.schema.get_field_index(column), column, pa.array(values, table.schema.field(column).type)
    )


def test_rows_come_back_as_they_were_written(folder):
    dataset = Dataset.open(folder)
    first, second = dataset.tables()
    assert first.schema == sample_schema(METRICS)
    assert first.equals(samples(("db1", "web1")))
    assert second.equals(samples(("web2",)))
    assert dataset.manifest.servers == ["db1", "web1", "web2"]
    assert (dataset.manifest.rows, dataset.manifest.start) == (90, START)
    assert dataset.manifest.end == START + timedelta(minutes=5 * 29)


def test_the_same_rows_in_any_order_give_the_same_bytes_and_fingerprint(tmp_path):
    made = []
    for name, order in (("a", slice(None)), ("b", slice(None, None, -1))):
        storage = Storage(tmp_path / name)
        storage.create()
        table = samples().take(pa.array(np.arange(60)[order]))
        made.append(write_manifest(storage, [write_part(storage, 0, table, METRICS)], METRICS))
    assert made[0].fingerprint == made[1].fingerprint


def test_there_is_no_dataset_before_its_manifest(tmp_path):
    storage = Storage(tmp_path)
    write_part(storage, 0, samples(), METRICS)
    with pytest.raises(DatasetError, match="is no dataset"):
        Dataset.open(tmp_path)


def test_a_manifest_is_refused_for_no_rows_and_for_a_server_in_two_parts(tmp_path):
    storage = Storage(tmp_path)
    with pytest.raises(DatasetError, match="no row was good"):
        write_manifest(storage, [], METRICS)
    parts = [write_part(storage, number, samples(("web1",)), METRICS) for number in (0, 1)]
    with pytest.raises(DatasetError, match="web1"):
        write_manifest(storage, parts, METRICS)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"{}"])
def test_a_damaged_manifest_is_a_dataset_error(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        Dataset.open(folder)


def test_a_damaged_part_is_a_dataset_error(folder):
    (folder / "part-00000.parquet").write_bytes((folder / "part-00000.parquet").read_bytes()[:-40])
    dataset = Dataset.open(folder)
    assert dataset.damaged_parts() == ["part-00000.parquet"]
    with pytest.raises(DatasetError, match="part-00000"):
        dataset.read(dataset.manifest.parts[0])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    storage = Storage(tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(DatasetError, match="cannot write taken"):
        storage.write_bytes("taken", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_sound_dataset_passes_and_its_counts_are_reported(folder):
    report = check_dataset(folder)
    assert report.ok, report.problems
    summary = report.summary()
    assert (summary["rows"], summary["servers"], summary["parts"]) == (90, 3, 2)
    assert summary["quarantined_rows"] == 0
    assert json.loads(json.dumps(summary)) == summary


def test_a_wrong_state_is_found_with_its_row(folder):
    stored = Dataset.open(folder).read(Dataset.open(folder).manifest.parts[0])["state"][17].as_py()
    rewrite(folder, lambda t: replaced(t, "state", 17, "offline"))
    found = check_dataset(folder).quarantine.to_pylist()
    assert [(row["file"], row["row"], row["column"], row["value"]) for row in found] == [
        ("part-00000.parquet", 17, "state", "offline")
    ]
    assert found[0]["rule"] == f"{STATE_RULE}: {stored}"


def test_planned_maintenance_counts_for_the_states(folder):
    windows = [{"server": "web1", "start": START, "end": START + timedelta(hours=1)}]
    planned = pa.Table.from_pylist(windows, MAINTENANCE)
    Storage(folder).write_table("maintenance.parquet", planned)
    assert check_dataset(folder).summary()["quarantined_rows"] == 12
    rewrite(folder, lambda t: with_states(t.drop_columns(["state"]), planned))
    assert check_dataset(folder).quarantine.num_rows == 0


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("cpu_utilization", 4.5, "hard range"),
        ("server", "", "is named"),
        ("timestamp", START + timedelta(minutes=52), "grid"),
        ("timestamp", START, "first row"),
    ],
)
def test_a_bad_row_is_found(folder, column, value, rule):
    rewrite(folder, lambda t: replaced(t, column, 10, value))
    report = check_dataset(folder)
    assert not report.ok
    assert (10, column) in {(row["row"], row["column"]) for row in report.quarantine.to_pylist() if rule in row["rule"]}


def test_other_bytes_than_the_manifest_tells_of_are_found(folder):
    rewrite(folder, lambda t: replaced(t, "memory_used", 3, 0.25), digest=False)
    assert any("SHA-256" in problem for problem in check_dataset(folder).problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.take(pa.array(np.arange(60)[::-1])), "not sorted"),
        (lambda t: t.drop_columns(["memory_used"]), "its columns are"),
        (lambda t: t.slice(1), "rows 59, the manifest has 60"),
    ],
)
def test_a_part_that_is_not_as_told_is_found(folder, change, message):
    rewrite(folder, change, digest=message == "not sorted")
    assert any(message in problem for problem in check_dataset(folder).problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contract_version": "3.0.0"}, "contract version"),
        ({"step_seconds": 60}, "step_seconds"),
        ({"rows": 91}, "rows, start and end"),
        ({"metrics": ["temperature"]}, "unknown metric 'temperature'"),
        ({"timezone": "Mars/Olympus"}, "time zone"),
        ({"soft_range_counts": {"memory_used": 9}}, "soft_range_counts"),
    ],
)
def test_a_manifest_that_does_not_agree_is_found(folder, change, message):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    report = check_dataset(folder)
    assert not report.ok
    assert any(message in problem for problem in report.problems)


def test_a_missing_and_a_broken_part_are_problems_not_crashes(folder):
    (folder / "part-00000.parquet").unlink()
    (folder / "part-00001.parquet").write_bytes(b"no parquet")
    problems = check_dataset(folder).problems
    assert any("has no part-00000.parquet" in problem for problem in problems)
    assert any("part-00001.parquet: not readable" in problem for problem in problems)


def test_side_tables_must_fit_the_servers(folder):
    storage = Storage(folder)
    storage.write_table(
        "topology.parquet", pa.Table.from_pylist([{"upstream": "ghost", "downstream": "web1", "strength": 1}], TOPOLOGY)
    )
    backwards = [{"server": "web1", "start": START, "end": START - timedelta(hours=1)}]
    storage.write_table("maintenance.parquet", pa.Table.from_pylist(backwards, MAINTENANCE))
    ghosts = [{"server": "web7", "start": START, "end": START + timedelta(hours=1)}]
    storage.write_table("remediations.parquet", pa.Table.from_pylist(ghosts, REMEDIATIONS))
    pq.write_table(pa.table({"server": ["web1"]}), folder / "incidents.parquet")
    problems = check_dataset(folder).problems
    assert any("ghost" in problem for problem in problems)
    assert any("remediations.parquet" in problem and "web7" in problem for problem in problems)
    assert any("start after end" in problem for problem in problems)
    assert any(problem.startswith("incidents.parquet") for problem in problems)


def test_no_dataset_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="is no dataset"):
        check_dataset(tmp_path)


def test_a_folder_in_a_folder_keeps_the_filesystem(tmp_path: Path) -> None:
    inner = Storage(f"file://{tmp_path}/outer").child("inner")
    inner.create()
    inner.write_bytes("file", b"content")
    assert (tmp_path / "outer" / "inner" / "file").read_bytes() == b"content"
    bucket = Storage("s3://bucket/fleet?region=us-east-1&endpoint_override=localhost:9")
    assert bucket.child("arrivals").root == "bucket/fleet/arrivals"
    assert bucket.child("arrivals").filesystem.equals(bucket.filesystem)
