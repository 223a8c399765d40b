"""A run or a service can be held by one living process, and a killed one leaves nothing locked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.errors import RunLockedError
from fleetcast.operate import locks

HOLD = """
import sys, time
from fleetcast.operate import locks
with locks.hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""

CONTEND = """
import sys
from fleetcast.errors import RunLockedError
from fleetcast.operate import locks
held = 0
for _ in range(40):
    try:
        with locks.hold(sys.argv[1]):
            with open(sys.argv[2], "x"):
                held += 1
            import os; os.unlink(sys.argv[2])
    except RunLockedError:
        pass
print(held)
"""


@contextmanager
def holding_process(lock: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_an_untouched_path_has_no_holder(tmp_path: Path) -> None:
    assert locks.holder(tmp_path / "run.lock") is None
    assert list(tmp_path.iterdir()) == []


def test_the_holder_is_named_with_pid_start_and_command(tmp_path: Path) -> None:
    lock = tmp_path / "models" / "run" / "run.lock"
    before = datetime.now(UTC)
    with locks.hold(lock) as me:
        assert locks.holder(lock) == me
        assert (me.pid, me.command) == (os.getpid(), " ".join(sys.argv))
        assert before <= me.started <= datetime.now(UTC)
        content = json.loads(lock.read_text())
        assert content == {"pid": me.pid, "started": me.started.isoformat(), "command": me.command}
    assert locks.holder(lock) is None
    assert not lock.exists()


def test_a_second_process_is_refused_with_pid_and_start_time_of_the_first(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with holding_process(lock) as process:
        living = locks.holder(lock)
        assert living is not None
        assert living.pid == process.pid
        with pytest.raises(RunLockedError) as refusal, locks.hold(lock):
            pytest.fail("two processes hold one lock")
        assert str(process.pid) in str(refusal.value)
        assert living.started.isoformat(timespec="seconds") in str(refusal.value)


def test_the_same_process_cannot_hold_a_lock_twice(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with locks.hold(lock):
        with pytest.raises(RunLockedError, match=str(os.getpid())), locks.hold(lock):
            pytest.fail("held twice")
        assert locks.holder(lock) is not None


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with holding_process(lock) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert json.loads(lock.read_text())["pid"] == process.pid
        assert locks.holder(lock) is None
        with locks.hold(lock) as me:
            assert me.pid == os.getpid()
            assert locks.holder(lock) == me


def test_programs_that_the_holder_starts_do_not_keep_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with locks.hold(lock):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        assert locks.holder(lock) is None
    finally:
        child.kill()
        child.communicate()


def test_a_lock_is_released_when_its_block_raises(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with pytest.raises(ZeroDivisionError), locks.hold(lock):
        _ = 1 / 0
    assert locks.holder(lock) is None


def test_a_file_locked_by_a_stranger_is_reported_not_guessed(tmp_path: Path) -> None:
    import fcntl

    lock = tmp_path / "run.lock"
    with lock.open("w") as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        with pytest.raises(RunLockedError, match="left no name"):
            locks.holder(lock)


def test_contending_processes_never_hold_it_together(tmp_path: Path) -> None:
    lock, proof = tmp_path / "run.lock", tmp_path / "proof"
    processes = [
        subprocess.Popen([sys.executable, "-c", CONTEND, str(lock), str(proof)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    while any(process.poll() is None for process in processes):
        locks.holder(lock)
        time.sleep(0.001)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(int(output) for output in outputs) > 0
