"""Each benchmark runs and ends with one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks._report import finish

ROOT = Path(__file__).parents[2]
KEYS = {"benchmark", "ours", "peer", "peer_name", "ratio", "unit", "limit", "threads", "rounds", "spread"}


NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
Runs = dict[str, "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """The smoke runs that are asked for, two at a time: most of each is waiting for processes to start."""
    chosen = [name for name in NAMES if any(f"[{name}]" in item.name for item in request.session.items)]
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(smoke_run, name) for name in chosen}
        pool.shutdown(cancel_futures=True)


def smoke_run(name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_a_smoke_run_ends_with_its_figures(name: str, runs: Runs) -> None:
    found = runs[name].result()
    assert found.returncode == 0, found.stderr
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
