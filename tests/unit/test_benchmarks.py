"""Each benchmark runs and ends with one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks._report import finish

ROOT = Path(__file__).parents[2]
KEYS = {"benchmark", "ours", "peer", "peer_name", "ratio", "unit", "limit", "threads", "rounds", "spread"}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")))
def test_a_smoke_run_ends_with_its_figures(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    result = json.loads(found.stdout.splitlines()[-1])
    assert result.keys() >= KEYS
    assert result["benchmark"] == name
    assert result["ratio"] == pytest.approx(result["ours"] / result["peer"])


def test_a_full_run_that_misses_a_limit_fails_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    result: dict[str, object] = {
        "ratio": 1.2,
        "ours": 3.0,
        "limit": {"ratio": {"at_most": 1.15}, "ours": {"at_least": 3}},
    }
    with pytest.raises(SystemExit, match=r"^missed: ratio is 1\.2, asked at most 1\.15$"):
        finish(result, quick=False)
    finish(result, quick=True)
    finish({**result, "limit": None}, quick=False)
    finish({**result, "limit": {"ours": {"at_least": 3}}}, quick=False)
    assert [json.loads(line)["ratio"] for line in capsys.readouterr().out.splitlines()] == [1.2] * 4
