"""The shipped mappings on the real telemetry, where this machine has it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fleetcast.dataset.check import check_dataset
from fleetcast.dataset.reader import Dataset
from fleetcast.sources.ingest import import_csv
from fleetcast.windows.arrays import arrays_from_dataset

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
needs_data = pytest.mark.skipif(
    not (SHARED / "data" / "bitbrains").is_dir(), reason="the real telemetry of ../shared/data is not on this machine"
)


@pytest.fixture(scope="module")
def vms(tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "vms"
    report = import_csv(SHARED / "data" / "bitbrains", ROOT / "examples" / "bitbrains.yaml", out, show_progress=False)
    return report, Dataset.open(out)


def truth():
    """The scorer's own view of the same files: {server: (CPU ratio on the grid, capacity)}."""
    spec = importlib.util.spec_from_file_location("score_vms", SHARED / "eval" / "score_vms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.START, module.load()


@needs_data
def test_the_vms_cpu_is_the_scorers_truth_but_for_the_cells_of_quarantined_rows(vms):
    report, dataset = vms
    start, expected = truth()
    fleet = arrays_from_dataset(dataset)
    assert (fleet.start, fleet.servers) == (start, tuple(sorted(expected)))
    quarantined = {(row["server"], (int(row["timestamp"]) - start) // 300) for row in report.quarantine.to_pylist()}
    compared = 0
    for row, server in enumerate(fleet.servers):
        found, wanted = fleet.select(["cpu_utilization"])[row, :, 0], expected[server][0].astype(np.float32)
        differs = ~np.isclose(found, wanted, rtol=1e-6, atol=1e-9, equal_nan=True)
        assert {(server, int(cell)) for cell in np.flatnonzero(differs)} <= quarantined
        compared += int((~np.isnan(found)).sum())
    assert compared == 439_985


@needs_data
def test_the_vms_counts(vms):
    report, dataset = vms
    tally = report.tally
    assert tally.rows_read == 451_946
    assert (tally.quarantined_rows, tally.duplicates, tally.empty_rows) == (5, 0, 0)
    assert tally.soft["cpu_utilization"] == 49_549, "11 % of the samples burst above 100 % and are kept"
    assert tally.undefined == {"memory_used": 24_015}
    assert set(report.quarantine["column"].to_pylist()) == {"mem_usage_kb"}
    assert check_dataset(dataset).ok


@needs_data
def test_the_cloud_series(tmp_path):
    mapping = ROOT / "examples" / "nab_cloudwatch.yaml"
    report = import_csv(SHARED / "data" / "nab_aws", mapping, tmp_path / "aws", show_progress=False)
    dataset = Dataset.open(tmp_path / "aws")
    assert check_dataset(dataset).ok
    assert len(report.files) == 13
    assert len(report.skipped) == 4
    assert (report.tally.rows_read, report.tally.duplicates, report.tally.quarantined_rows) == (50_325, 11, 0)
    assert {"ec2-24ae8d", "rds-cc0c53", "ec2-257a54", "i-a2eb1cd9"} <= set(dataset.manifest.servers)
    assert dataset.manifest.metrics == ["cpu_utilization", "network_receive_bytes"]
