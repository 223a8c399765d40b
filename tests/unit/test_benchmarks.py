"""Each benchmark runs and ends with one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEYS = {"benchmark", "ours", "peer", "peer_name", "ratio", "unit", "limit", "threads", "rounds", "spread"}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")))
def test_a_smoke_run_ends_with_its_figures(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(found.stdout.splitlines()[-1])
    assert result.keys() >= KEYS
    assert result["benchmark"] == name
    assert result["ratio"] == pytest.approx(result["ours"] / result["peer"])
