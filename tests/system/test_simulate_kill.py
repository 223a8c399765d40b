"""A simulation is killed with SIGKILL at a random moment; the same command finishes it to the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.system
ARGUMENTS = ["--servers", "240", "--hours", "1440", "--shard-servers", "6", "--seed", "9"]
PARTS = 40


def _start(out: Path, home: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "HOME": str(home), "FLEETCAST_RAY__NUM_CPUS": "2"}
    command = [sys.executable, "-m", "jobs.simulate", *ARGUMENTS, "--out", str(out)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def _finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def _data(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "overview.png"}


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    _finish(_start(folder / "data", folder))
    files = _data(folder / "data")
    assert len(files) == PARTS + 5
    return files


def _wait_for_parts(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    """Until so many parts are there; every part that can be seen is whole."""
    deadline = time.monotonic() + 120
    read: set[str] = set()
    while len(_parts(folder)) < count:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline, "no parts came"
        for path in _parts(folder):
            if path.name not in read:
                assert pq.ParquetFile(path).read(["server"]).num_rows > 6 * 17_000
                read.add(path.name)
        time.sleep(0.01)


def test_a_killed_driver_is_followed_by_one_that_finishes(
    tmp_path: Path, whole: dict[str, bytes], request: pytest.FixtureRequest
) -> None:
    out, moments = tmp_path / "data", random.Random(os.urandom(8))
    count = moments.randrange(1, PARTS - 8)
    first = _start(out, tmp_path)
    _wait_for_parts(first, out, count)
    time.sleep(moments.random() * 0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (out / "manifest.json").exists()
    made = {path.name: path.stat().st_mtime_ns for path in _parts(out)}
    assert len(made) >= count
    _finish(_start(out, tmp_path))
    assert _data(out) == whole, f"killed after {count} parts"
    again = [name for name, at in made.items() if (out / name).stat().st_mtime_ns != at]
    late = 3  # a worker that outlives the driver for a moment may write the part it was at once more
    assert len(again) <= late
    assert not [path for path in out.rglob("*") if path.name.endswith(".partial")]


def test_a_killed_worker_is_replaced(tmp_path: Path, whole: dict[str, bytes]) -> None:
    out = tmp_path / "data"
    driver = _start(out, tmp_path)
    _wait_for_parts(driver, out, random.Random(os.urandom(8)).randrange(2, 12))
    workers = [one for one in psutil.Process(driver.pid).children(recursive=True) if _makes_shards(one)]
    assert workers, "no worker was at a shard"
    os.kill(workers[0].pid, signal.SIGKILL)
    _finish(driver)
    assert _data(out) == whole


def test_a_second_simulation_into_the_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "data"
    driver = _start(out, tmp_path)
    _wait_for_parts(driver, out, 1)
    os.kill(driver.pid, signal.SIGSTOP)  # so that it is still there, however long the second one takes to start
    second = _start(out, tmp_path)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert errors.decode().count("another simulation is writing") == 1
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


def _makes_shards(process: psutil.Process) -> bool:
    """Whether a process is a worker of Ray that is at a shard."""
    try:
        title = (process.cmdline() or [""])[0]
    except psutil.Error:
        return False
    return title.startswith("ray::") and "MapBatches" in title
