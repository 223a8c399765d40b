"""The import: units, the grid, gaps, duplicates, quarantine, and a dataset that appears whole or not at all."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.dataset.check import check_dataset
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import DatasetError, MappingError
from fleetcast.sources import ingest
from fleetcast.sources.grid import roll_up

START = 1_767_600_000  # 2026-01-05T08:00Z, on the grid
MAPPING = """\
files:
  - match: "*.csv*"
    server: {column: host}
    profile: {from_host: true}
    time: {column: t, format: unix_s}
    metrics:
      cpu_utilization: {column: cpu, unit: percent}
      memory_used: {column: used, unit: MB, capacity: {column: total, unit: GB}}
      network_receive_bytes: {column: rx, unit: KB/s}
    ignore: [note]
"""
HEADER = "host,t,cpu,used,total,rx,note"


def run(tmp_path, lines, mapping=MAPPING, name="in/a.csv", out="out", reader=ingest.import_csv, **options):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if lines is not None:
        text = "\n".join(lines) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    (tmp_path / "mapping.yaml").write_text(mapping)
    return reader(path.parent, tmp_path / "mapping.yaml", tmp_path / out, show_progress=False, **options)


def rows(tmp_path, out="out"):
    return pa.concat_tables(Dataset.open(tmp_path / out).tables()).to_pylist()


def test_units_profiles_and_the_grid(tmp_path):
    lines = [HEADER, f"ppdb1,{START + 10},50,500,2,3,x", f"ppdb1,{START + 299},70,700,2,5,y"]
    report = run(tmp_path, lines)
    (row,) = rows(tmp_path)
    assert (row["server"], row["profile"], row["state"]) == ("ppdb1", "database", "heavy_load")
    assert row["timestamp"] == datetime.fromtimestamp(START, UTC)
    assert row["cpu_utilization"] == np.float32(0.6)
    assert row["memory_used"] == np.float32(0.3)
    assert row["network_receive_bytes"] == 4000
    assert report.summary()["rows"] == 1
    assert check_dataset(tmp_path / "out").ok


def test_gaps_are_kept_and_a_cell_begins_at_its_stamp(tmp_path):
    stamps = [START, START + 299, START + 300, START + 1500]
    run(tmp_path, [HEADER, *(f"web1,{stamp},10,1,1,1," for stamp in stamps)])
    assert [int(row["timestamp"].timestamp()) - START for row in rows(tmp_path)] == [0, 300, 1500]


def test_the_last_of_two_rows_of_one_server_and_time_is_used_and_the_other_counted(tmp_path):
    lines = [HEADER, f"web1,{START},10,1,1,1,", f"web2,{START},40,1,1,1,", f"web1,{START},30,1,1,1,"]
    report = run(tmp_path, lines)
    assert [row["cpu_utilization"] for row in rows(tmp_path)] == [np.float32(0.3), np.float32(0.4)]
    assert (report.tally.duplicates, report.tally.samples, report.tally.rows_read) == (1, 2, 3)


def test_duplicates_are_found_across_files_in_the_order_of_their_names(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.csv").write_text(f"{HEADER}\nweb1,{START},90,1,1,1,\n")
    report = run(tmp_path, [HEADER, f"web1,{START},10,1,1,1,"])
    assert [row["cpu_utilization"] for row in rows(tmp_path)] == [np.float32(0.9)]
    assert report.tally.duplicates == 1


def test_bad_rows_are_quarantined_with_their_line_and_the_good_ones_kept(tmp_path):
    lines = [
        HEADER,
        f"web1,{START},10,1,1,1,",
        f"web1,{START + 300},401,1,1,1,",
        f"web1,{START + 600},ten,1,1,1,",
        "",
        "web1,yesterday,10,1,1,1,",
        f"web1,{START + 900},10,1",
        f",{START + 1200},10,1,1,1,",
        f"web1,{START + 1500},10,1,-1,1,",
        f"web1,{START + 1800},110,,,,",
        f"web1,{START + 2100},NaN,,1,,",
    ]
    report = run(tmp_path, lines)
    found = [(row["row"], row["column"], row["value"], row["rule"]) for row in report.quarantine.to_pylist()]
    assert found == [
        (3, "cpu", "401", "cpu_utilization lies in the hard range [0, 4]"),
        (4, "cpu", "ten", "is a number"),
        (6, "t", "yesterday", "is a time (unix_s, UTC) between 1990 and 2100"),
        (7, "", f"web1,{START + 900},10,1", "has as many columns as the header"),
        (8, "host", None, "names the server"),
        (9, "total", "-1", "is a capacity of at least 0"),
    ]
    assert set(report.quarantine["file"].to_pylist()) == {"a.csv"}
    assert [int(row["timestamp"].timestamp()) - START for row in rows(tmp_path)] == [0, 1800]
    tally = report.tally
    assert (tally.rows_read, tally.samples, tally.quarantined_rows, tally.empty_rows) == (10, 2, 6, 2)
    assert tally.soft == {"cpu_utilization": 1}
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.manifest.quarantined_rows == 6
    assert dataset.manifest.soft_range_counts == {"cpu_utilization": 1}
    assert dataset.storage.read_table("quarantine.parquet").equals(report.quarantine)


def test_a_share_of_no_capacity_is_missing_and_counted(tmp_path):
    report = run(tmp_path, [HEADER, f"web1,{START},10,5,0,1,", f"web1,{START + 300},10,5,,1,"])
    assert [row["memory_used"] for row in rows(tmp_path)] == [None, None]
    assert report.tally.undefined == {"memory_used": 2}
    assert report.tally.quarantined_rows == 0


CELL = st.sampled_from(["10", "120", "0", "", "NA", "401", "-1", "x", "1e2", "inf", "0x10", " 5 "])
TIME = st.one_of(st.integers(START, START + 2000).map(str), st.sampled_from(["", "soon", "-5", "9e15"]))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["web1", "db1", ""]), TIME, CELL, CELL), min_size=1, max_size=25))
def test_the_counts_add_up_and_the_grid_holds_the_means_of_the_good_rows(tmp_path_factory, cells):
    tmp_path = tmp_path_factory.mktemp("import")
    last = {}
    for host, stamp, cpu, rx in cells:
        values = [float(text) if text not in ("", "NA") else None for text in (cpu, rx) if text not in ("x", "0x10")]
        readable = len(values) == 2 and host and stamp.isdigit() and values != [None, None]
        if readable and all(v is None or 0 <= v <= limit for v, limit in zip(values, (400, 1e9), strict=True)):
            last[host, int(stamp)] = values[0]
    lines = [HEADER, *(f"{host},{stamp},{cpu},,,{rx}," for host, stamp, cpu, rx in cells)]
    if not last:
        with pytest.raises(DatasetError, match="nothing to import"):
            run(tmp_path, lines)
        return
    report = run(tmp_path, lines)
    tally = report.tally
    assert tally.rows_read == len(cells)
    assert tally.rows_read == tally.samples + tally.duplicates + tally.quarantined_rows + tally.empty_rows
    assert tally.samples == len(last)
    assert len(set(report.quarantine["row"].to_pylist())) == tally.quarantined_rows
    grid = {(row["server"], int(row["timestamp"].timestamp())): row["cpu_utilization"] for row in rows(tmp_path)}
    groups = {}
    for (host, stamp), cpu in last.items():
        groups.setdefault((host, stamp // 300 * 300), []).append(cpu)
    assert grid.keys() == groups.keys()
    for key, found in groups.items():
        known = [value for value in found if value is not None]
        assert grid[key] == (pytest.approx(np.mean(known) / 100) if known else None)
    assert check_dataset(tmp_path / "out").ok


@pytest.mark.parametrize(
    ("spec", "text", "expected"),
    [
        ("format: unix_ms", f"{START}500", 0),
        ("format: iso", "2026-01-05T08:00:00Z", 0),
        ("format: iso", "2026-01-05 08:00:00", 0),
        ("format: iso", "2026-01-05T03:00:00-05:00", 0),
        ("format: iso, zone: America/New_York", "2026-01-05T03:00:00", 0),
        ("format: iso, zone: America/New_York", "2026-01-05T08:00:00+00:00", 0),
        ('format: "%d.%m.%Y %H:%M", zone: Europe/Berlin', "05.01.2026 09:00", 0),
        ('format: "%Y%m%dT%H%M%S%z"', "20260105T030000-0500", 0),
        ("format: iso, zone: America/New_York", "2026-03-08T02:30:00", None),
        ("format: iso, zone: America/New_York", "2026-11-01T01:30:00", None),
        ("format: iso", "2026-13-01", None),
        ("format: unix_s", f"{START}000", None),
        ("format: unix_ms", str(START), None),
    ],
)
def test_time_formats_and_zones(tmp_path, spec, text, expected):
    mapping = MAPPING.replace("format: unix_s", spec)
    lines = [HEADER, f"web1,{text},10,1,1,1,"]
    if expected is None:
        with pytest.raises(DatasetError, match="is a time"):
            run(tmp_path, lines, mapping)
    else:
        run(tmp_path, lines, mapping)
        assert [int(row["timestamp"].timestamp()) - START for row in rows(tmp_path)] == [expected]


@pytest.mark.parametrize(
    ("rule", "host", "expected"),
    [
        ("{fixed: risk_analytics}", "web1", "risk_analytics"),
        ("{column: note}", "web1", "database"),
        ("{column: note, map: {database: web_api}}", "web1", "web_api"),
        ("{column: note, map: {cache: web_api}, otherwise: unknown}", "web1", "unknown"),
        ("{map: {web1: data_ingest}}", "web1", "data_ingest"),
        ("{map: {web1: data_ingest}}", "web2", "generic"),
    ],
)
def test_profiles(tmp_path, rule, host, expected):
    mapping = MAPPING.replace("{from_host: true}", rule)
    if "note" in rule:
        mapping = mapping.replace("    ignore: [note]\n", "")
    run(tmp_path, [HEADER, f"{host},{START},10,1,1,1,database"], mapping)
    assert rows(tmp_path)[0]["profile"] == expected


SERIES = """\
files:
  - match: "*_cpu_*.csv"
    server: {file: '(?P<kind>[a-z0-9]+)_cpu_(?P<id>\\w+)\\.csv', name: "{kind}-{id}"}
    profile: {fixed: generic}
    time: &time {column: timestamp, format: "%Y-%m-%d %H:%M:%S"}
    metrics:
      cpu_utilization: {column: value, unit: percent, complement: true}
  - match: "*_net_*.csv"
    server: {file: '(?P<kind>[a-z0-9]+)_net_(?P<id>\\w+)\\.csv', name: "{kind}-{id}"}
    profile: {fixed: generic}
    time: *time
    metrics:
      network_receive_bytes: {column: value, unit: B/5min}
skip:
  - {match: "*_requests_*.csv", reason: "no metric of a server"}
"""


def test_single_metric_files_of_one_server_come_together_and_skipped_ones_are_reported(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ec2_net_7.csv").write_text("timestamp,value\n2026-01-05 08:00:00,600\n")
    (tmp_path / "in" / "elb_requests_1.csv").write_text("timestamp,value\n2026-01-05 08:00:00,600\n")
    (tmp_path / "in" / "README.md").write_text("not a series")
    lines = ["timestamp,value", "2026-01-05 08:00:00,75", "2026-01-05 08:05:00,90"]
    report = run(tmp_path, lines, SERIES, "in/ec2_cpu_7.csv")
    assert report.skipped == {"elb_requests_1.csv": "no metric of a server"}
    first, second = rows(tmp_path)
    assert first["server"] == "ec2-7"
    assert (first["cpu_utilization"], first["network_receive_bytes"]) == (0.25, 2.0)
    assert (second["cpu_utilization"], second["network_receive_bytes"]) == (np.float32(0.1), None)
    assert report.tally.duplicates == 0


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER + ",extra", "neither mapped nor listed under `ignore`: 'extra'"),
        (HEADER.replace("cpu", "CPU"), "lacks mapped columns: 'cpu'"),
        (HEADER + ",cpu", "has columns twice: 'cpu'"),
    ],
)
def test_no_column_is_dropped_in_silence(tmp_path, header, message):
    with pytest.raises(MappingError, match=message):
        run(tmp_path, [header])
    assert not (tmp_path / "out").exists()


def test_no_file_is_dropped_in_silence(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "other.csv").write_text("a,b\n")
    with pytest.raises(MappingError, match=r"other\.csv matches no entry"):
        run(tmp_path, [HEADER, f"web1,{START},10,1,1,1,"], MAPPING.replace('"*.csv*"', '"a.csv"'))
    with pytest.raises(MappingError, match=r"matches 2 entries .*files\.0, skip"):
        run(tmp_path, None, MAPPING + 'skip: [{match: "*.csv", reason: old}]\n')
    with pytest.raises(MappingError, match="does not exist"):
        ingest.import_csv(tmp_path / "nowhere", tmp_path / "mapping.yaml", tmp_path / "out")


def test_gzipped_files_other_delimiters_and_blanks(tmp_path):
    lines = ["﻿" + HEADER.replace(",", ";\t"), f"web1;\t{START};\t10;\t1;\t1;\t1;\t"]
    mapping = MAPPING.replace("    ignore: [note]", "    ignore: [note]\n    delimiter: ';'")
    run(tmp_path, lines, mapping, "in/a.csv.gz")
    assert rows(tmp_path)[0]["cpu_utilization"] == np.float32(0.1)


def test_line_numbers_are_right_in_every_block_of_a_long_file(tmp_path, monkeypatch):
    monkeypatch.setattr("fleetcast.sources.csv._BLOCK_BYTES", 4096)
    lines = [HEADER, *(f"web1,{START + 300 * n},10,1,1,1," for n in range(2000))]
    bad = {5: "short", 400: f"web1,{START},x,1,1,1,", 401: "short", 1200: f"web1,{START},999,1,1,1,", 2001: "short"}
    for number, text in bad.items():
        lines[number - 1] = text
    report = run(tmp_path, lines)
    assert report.quarantine["row"].to_pylist() == sorted(bad)
    assert len(rows(tmp_path)) == 2000 - len(bad)


def test_a_damaged_file_leaves_no_dataset(tmp_path):
    (tmp_path / "in").mkdir()
    whole = gzip.compress((HEADER + "\n" + f"web1,{START},10,1,1,1,\n" * 5000).encode())
    (tmp_path / "in" / "a.csv.gz").write_bytes(whole[:-50])
    with pytest.raises(DatasetError, match=r"a\.csv\.gz"):
        run(tmp_path, None)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_existing_dataset_is_refused_unless_it_shall_be_overwritten(tmp_path):
    servers = [f"web{n}" for n in range(60)]
    run(tmp_path, [HEADER, *(f"{server},{START},10,1,1,1," for server in servers)])
    old = Dataset.open(tmp_path / "out")
    assert [len(part.servers) for part in old.manifest.parts] == [25, 25, 10]
    with pytest.raises(DatasetError, match="already holds a dataset"):
        run(tmp_path, [HEADER, f"db1,{START},20,1,1,1,"])
    assert old.damaged_parts() == []
    run(tmp_path, [HEADER, f"db1,{START},20,1,1,1,"], overwrite=True)
    assert [row["server"] for row in rows(tmp_path)] == ["db1"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"manifest.json", "quarantine.parquet", Dataset.open(tmp_path / "out").manifest.parts[0].name}


def test_an_overwrite_that_fails_leaves_the_old_dataset_whole(tmp_path):
    run(tmp_path, [HEADER, f"web1,{START},10,1,1,1,"])
    with pytest.raises(DatasetError, match="nothing to import"):
        run(tmp_path, [HEADER, f"web1,{START},x,1,1,1,"], overwrite=True)
    assert check_dataset(tmp_path / "out").ok
    assert [row["cpu_utilization"] for row in rows(tmp_path)] == [np.float32(0.1)]


def test_a_dataset_with_cpu_alone_is_valid(tmp_path):
    mapping = SERIES.replace(", complement: true", "")
    run(tmp_path, ["timestamp,value", "2026-01-05 08:00:00,75"], mapping, "in/ec2_cpu_7.csv")
    dataset = Dataset.open(tmp_path / "out")
    assert check_dataset(dataset).ok


PARQUET = MAPPING.replace('"*.csv*"', '"*.parquet"').replace("unix_s", "timestamp")


def test_parquet_with_its_own_types(tmp_path):
    (tmp_path / "in").mkdir()
    table = pa.table(
        {
            "host": pa.array(["web1", "web1", None]).dictionary_encode(),
            "t": pa.array([START * 10**6 + 7, (START + 300) * 10**6, START * 10**6], pa.timestamp("us", "UTC")),
            "cpu": pa.array([10, 500, 10], pa.int64()),
            "used": pa.array([1.0, None, 1.0]),
            "total": pa.array([1.0, 1.0, 1.0]),
            "rx": pa.array(["1", "2", "3"]),
            "note": pa.array([None, None, None], pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    report = run(tmp_path, None, PARQUET, "in/a.parquet", reader=ingest.import_parquet)
    (row,) = rows(tmp_path)
    assert (row["cpu_utilization"], row["network_receive_bytes"]) == (np.float32(0.1), 1000.0)
    assert [(found["row"], found["column"]) for found in report.quarantine.to_pylist()] == [(1, "cpu"), (2, "host")]
    with pytest.raises(MappingError, match="its time format must be timestamp"):
        run(tmp_path, None, PARQUET.replace("timestamp", "iso"), "in/a.parquet", "b", reader=ingest.import_parquet)


SAMPLES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 1200), st.floats(0, 1)), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=60)
@given(SAMPLES)
def test_a_cell_is_the_mean_of_the_last_samples_of_each_time(samples):
    server, series, seconds, values = zip(*samples, strict=True)
    table = pa.table(
        {
            "server": pa.array(server),
            "profile": pa.repeat("generic", len(samples)),
            "time": pa.array([(START + second) * 10**6 for second in seconds]),
            "series": pa.array(series, pa.int32()),
            "cpu_utilization": pa.array(values),
        }
    )
    last = {(name, way, second): value for name, way, second, value in samples}
    cells = {}
    for (name, _, second), value in last.items():
        cells.setdefault((name, START + second // 300 * 300), []).append(value)
    grid, duplicates = roll_up(table, ["cpu_utilization"])
    found = {(r["server"], int(r["timestamp"].timestamp())): r["cpu_utilization"] for r in grid.to_pylist()}
    assert found == pytest.approx({key: np.mean(group) for key, group in cells.items()})
    assert list(found) == sorted(found)
    assert duplicates == len(samples) - len(last)
