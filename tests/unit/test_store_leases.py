"""One holder at a time, and what a former holder writes is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleetcast.errors import LeaseLostError
from fleetcast.store.engine import Store, open_store
from fleetcast.store.leases import Lease, beat_lease, require_lease, see_lease, take_lease
from serve_app.leadership import Leadership
from serve_app.processes import identity, is_gone

LEASE_S = 0.4


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/fleetcast.db")


def take(store: Store, holder: str) -> Lease | None:
    with store.session() as session:
        return take_lease(session, "watcher", holder, see_lease(session, "watcher"))


def test_every_holder_has_a_greater_number_and_the_former_one_can_neither_beat_nor_write(store: Store) -> None:
    first = take(store, "a")
    second = take(store, "b")
    assert first == Lease("watcher", "a", 1)
    assert second == Lease("watcher", "b", 2)
    for refused in (beat_lease, require_lease):
        with pytest.raises(LeaseLostError, match="b with number 2"), store.session() as session:
            refused(session, first)
    with store.session() as session:
        assert require_lease(session, second).holder == "b"


def test_a_lease_whose_holder_has_beaten_since_it_was_seen_is_not_taken(store: Store) -> None:
    first = take(store, "a")
    assert first is not None
    with store.reading() as session:
        seen = see_lease(session, "watcher")
    with store.session() as session:
        beat_lease(session, first)
    with store.session() as session:
        assert take_lease(session, "watcher", "b", seen) is None
    with store.session() as session:
        assert take_lease(session, "watcher", "b", None) is None


def test_a_holder_that_beats_stays_and_one_that_stops_is_followed(store: Store) -> None:
    first = Leadership(store, "watcher", holder="here:1:a", lease_s=LEASE_S)
    second = Leadership(store, "watcher", holder="here:1:b", lease_s=LEASE_S)
    first.turn()
    assert first.lease is not None
    for _ in range(8):
        second.turn()
        first.turn()
        time.sleep(LEASE_S / 4)
    assert second.lease is None
    assert first.lease is not None
    second.turn()
    while second.lease is None:
        time.sleep(LEASE_S / 4)
        second.turn()
    assert first.lease is None, "it has not beaten for the length of the lease and says so itself"
    first.turn()
    assert first.lease is None
    assert second.lease.fence == 2


def test_a_holder_of_this_machine_whose_process_is_gone_is_followed_at_once(store: Store) -> None:
    program = "from serve_app.processes import identity; print(identity(), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        holder = process.stdout.readline().strip()
        assert holder == identity(process.pid)
        assert take(store, holder) is not None
        follower = Leadership(store, "watcher", lease_s=3600.0)
        follower.turn()
        assert (is_gone(holder), follower.lease) == (False, None)
        process.kill()
        process.wait()
        follower.turn()
    assert is_gone(holder)
    assert follower.lease is not None


def test_a_process_of_another_machine_is_never_said_to_be_gone() -> None:
    space, pid, started = identity().rsplit(":", 2)
    assert not is_gone(f"other-{space}:{pid}:{started}")
    assert not is_gone("anything")
    assert not is_gone(identity())
    assert is_gone(f"{space}:{pid}:1")
