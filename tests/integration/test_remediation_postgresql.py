"""Plans on PostgreSQL: two processes that start at once keep within the limits, and each action is done once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleetcast.errors import ConflictError, LimitError
from fleetcast.remediation.claim import claim
from fleetcast.store.audit import verify
from fleetcast.store.engine import open_store
from tests import postgres
from tests.desk import Desk, live
from tests.target import Target, running


@pytest.fixture(scope="module")
def store_url() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture
def target() -> Iterator[Target]:
    with running() as found:
        yield found


def test_plans_are_carried_out_within_limits_by_two_at_once(store_url: str, target: Target) -> None:
    settings = live({"database_api": target.settings()}, max_concurrent=1, max_concurrent_per_profile=1)
    desk, other = Desk(open_store(store_url), settings), Desk(open_store(store_url), settings)
    plans = [desk.approved("db1"), desk.approved("db2")]
    together = threading.Barrier(2)
    target.held = threading.Event()

    def execute(who: Desk, plan: int) -> str:
        together.wait()
        try:
            return who.runner.execute(plan, "bob").status
        except LimitError:
            target.held.set()  # the other one has begun
            return "refused"

    with ThreadPoolExecutor(2) as pool:
        started = [pool.submit(execute, who, plan.id) for who, plan in zip((desk, other), plans, strict=True)]
        assert sorted(one.result() for one in started) == ["refused", "verifying"]
    done = next(plan for plan in desk.engine.list_plans() if plan.status == "verifying")
    assert [key for key, _ in target.effects] == [step.action_id for step in done.steps]
    assert desk.runner.roll_back(done.id, "carl").status == "rolled_back"
    left = next(plan for plan in plans if plan.id != done.id)
    assert other.runner.execute(left.id, "bob").status == "verifying"
    with pytest.raises(ConflictError, match="is verifying"):
        desk.engine.approve(left.id, left.hash, "eve", {"approve"})
    fresh = desk.proposed("db3")
    with ThreadPoolExecutor(2) as pool:
        claims = [pool.submit(claim, who.store, fresh.id, 0.2) for who in (desk, other)]
        assert sorted(one.result().fence for one in claims) == [1, 2]
    with desk.store.reading() as session:
        verify(session)
    for one in (desk, other):
        one.store.close()
