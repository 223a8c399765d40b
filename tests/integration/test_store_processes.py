"""Several processes on one database: opening at once, writing at once, ending in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.store.audit import list_audit, verify
from fleetcast.store.engine import open_store
from fleetcast.store.samples import read_samples

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)

OPEN_AND_WRITE = """
import sys
from datetime import UTC, datetime
from fleetcast.store.audit import record
from fleetcast.store.engine import open_store
store = open_store(sys.argv[1])
for number in range(20):
    with store.session() as session:
        record(session, datetime(2026, 1, 5, tzinfo=UTC), sys.argv[2], "write", str(number))
"""

POST_UNTIL_KILLED = """
import itertools, sys
import pyarrow as pa
from fleetcast.store.engine import open_store
from fleetcast.store.samples import append_samples
store = open_store(sys.argv[1])
for step in itertools.count():
    with store.session() as session:
        times = pa.array([300 * step] * 50).cast(pa.timestamp("s", tz="UTC"))
        table = {"server": [f"s{k}" for k in range(50)], "profile": ["generic"] * 50, "timestamp": times}
        append_samples(session, pa.table({**table, "cpu_utilization": [0.5] * 50}))
    print(step, flush=True)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/shared/fleetcast.db"


def test_processes_that_open_a_new_database_at_once_all_succeed(url: str) -> None:
    names = ["a", "b", "c", "d"]
    processes = [start(OPEN_AND_WRITE, url, name) for name in names]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    with open_store(url).reading() as session:
        assert verify(session).entries == 80
        written = {(entry.actor, entry.subject) for entry in list_audit(session)}
    assert written == {(name, str(number)) for name in names for number in range(20)}


def test_what_was_acknowledged_survives_a_kill_and_nothing_is_half_there(url: str) -> None:
    process = start(POST_UNTIL_KILLED, url)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(10)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.communicate(timeout=60)[0].split()]
    with open_store(url).reading() as session:
        steps = [int(at.timestamp()) // 300 for one in read_samples(session, 0) for at in one["timestamp"].to_pylist()]
    assert set(acknowledged) <= set(steps)
    assert {steps.count(step) for step in set(steps)} == {50}
