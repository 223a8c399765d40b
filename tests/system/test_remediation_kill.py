"""Processes that carry out a plan are killed at every point: no action runs twice, none is lost without a record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from fleetcast.remediation import control
from fleetcast.remediation.views import PlanView
from fleetcast.store.audit import verify
from fleetcast.store.tables_remediation import ExecutionTable
from tests.desk import Desk, live, new_store
from tests.target import Target, running

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
POOL, READS = "PUT /servers/db1/pool", "PUT /servers/db1/reads"
BACK = ["DELETE /servers/db1/reads", "DELETE /servers/db1/pool"]

# For every line on standard input: a process of its own carries a plan out and is killed before or after an action, or
# before or after the commit of a transaction.
WORKER = """
import json, os, signal, sys
from datetime import datetime
from fleetcast.remediation.http_executor import HttpExecutor
from fleetcast.remediation.runner import Runner
from fleetcast.settings import RemediationSettings
from contextlib import contextmanager
from fleetcast.store.engine import Store, open_store
from tests.desk import Hands

class Killed(HttpExecutor):
    count = 0
    def perform(self, action_id, call, undoes=None):
        self.count += 1
        if (self.count, "before") == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        result = super().perform(action_id, call, undoes)
        if (self.count, "after") == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

class Committing(Store):
    count = 0
    @contextmanager
    def session(self):
        with super().session() as session:
            yield session
            self.count += 1
            if (self.count, "before the commit") == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        if (self.count, "after the commit") == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

def work(order):
    settings = RemediationSettings.model_validate(order["settings"])
    executor = Killed(settings.targets)
    store = Committing(open_store(order["url"]).engine)
    executor.at = store.at = (order["number"], order["moment"])
    clock = Hands(datetime.fromisoformat(order["now"]))
    Runner(store, clock, settings, {"http": executor}, executor.probe).execute(order["plan"], "bob")

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        work(json.loads(line))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    yield process
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == 0


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    """One database for all: each case has a server of its own time, an hour and more after the last."""
    with new_store() as store:
        yield Desk(store)


@pytest.fixture
def target() -> Iterator[Target]:
    with running() as found:
        yield found


KINDS = {
    "takes a key once": {"honours_keys": True},
    "can be asked": {"honours_keys": False, "lookup": "/actions/{action_id}"},
    "neither": {"honours_keys": False},
}


def ended(worker: subprocess.Popen[str], desk: Desk, plan: PlanView, number: int, moment: str) -> int:
    """Let a process carry the plan out until it is killed there; how it ended."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    order = {
        "url": str(desk.store.engine.url), "settings": desk.settings.model_dump(mode="json"), "plan": plan.id,
        "number": number, "moment": moment, "now": desk.clock.now().isoformat(),
    }  # fmt: skip
    worker.stdin.write(json.dumps(order) + "\n")
    worker.stdin.flush()
    return int(worker.stdout.readline())


def begin(desk: Desk, target: Target, kind: str) -> PlanView:
    target.keyed = kind == "takes a key once"
    desk.clock.on(hours=3)
    desk.settings = live({"database_api": target.settings(**KINDS[kind])}, takeover_s=600.0)
    return desk.approved()


def close(desk: Desk, target: Target, plan: PlanView) -> None:
    """What holds however it went: each action has had its effect once, and a record; the books are in order."""
    done = [key for key, _ in target.effects]
    assert len(set(done)) == len(done)
    with desk.store.reading() as session:
        rows = session.scalars(select(ExecutionTable).where(ExecutionTable.plan_id == plan.id)).all()
        assert set(done) <= {row.action_id for row in rows}
        assert all(row.finished_at is not None and row.outcome is not None for row in rows)
        verify(session)
    desk.alerts.resolve(plan.alert_id, "ann", desk.clock.now())
    desk.runner.verify()
    with desk.store.session() as session:
        control.release(session, "ann", desk.clock.now())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("action", [1, 2])
def test_a_plan_whose_process_is_killed_is_finished_or_taken_back_by_another(
    worker: subprocess.Popen[str], desk: Desk, target: Target, kind: str, moment: str, action: int
) -> None:
    plan = begin(desk, target, kind)
    assert ended(worker, desk, plan, action, moment) == signal.SIGKILL
    between = desk.engine.get(plan.id)
    assert [step.status for step in between.steps][action - 1] == "started"
    assert desk.runner.tend() == [plan.id]
    found = desk.engine.get(plan.id)
    if kind == "neither":  # nobody can say whether the action was done: it is not done again, all is taken back
        assert (found.status, found.steps[action - 1].status) == ("rolled_back", "taken back")
        assert target.seen == [POOL, READS][: action - (moment == "before")] + BACK[2 - action :]
    else:
        assert (found.status, [step.status for step in found.steps]) == ("verifying", ["done", "done"])
        assert [what for _, what in target.effects] == [POOL, READS]
    close(desk, target, plan)


@pytest.mark.parametrize("kind", ["takes a key once", "can be asked"])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("action", [3])
def test_a_plan_that_is_being_taken_back_when_its_process_is_killed_is_taken_back_by_another(
    worker: subprocess.Popen[str], desk: Desk, target: Target, kind: str, moment: str, action: int
) -> None:
    plan = begin(desk, target, kind)
    target.answers[READS] = [422]
    assert ended(worker, desk, plan, action, moment) == signal.SIGKILL
    assert desk.engine.get(plan.id).status == "rolling_back"
    assert desk.runner.tend() == [plan.id]
    assert desk.engine.get(plan.id).status == "rolled_back"
    assert [what for _, what in target.effects] == [POOL, BACK[1]]
    close(desk, target, plan)


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_whatever_transaction_a_process_is_killed_at_the_plan_is_finished_once(
    worker: subprocess.Popen[str], desk: Desk, target: Target, moment: str
) -> None:
    """Walks all transactions, until there is none left to be killed at."""
    for number in range(1, 100):
        target.effects.clear()
        plan = begin(desk, target, "takes a key once")
        how = ended(worker, desk, plan, number, moment)
        assert how in (0, signal.SIGKILL)
        found = desk.runner.execute(plan.id, "carl")
        assert (found.status, [what for _, what in target.effects]) == ("verifying", [POOL, READS])
        close(desk, target, plan)
        if how == 0:
            assert number > 8
            return
