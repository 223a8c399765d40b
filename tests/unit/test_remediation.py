"""Remediation asks first, does nothing yet, and records every step once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.routing import Routing
from fleetcast.alerting.views import AlertView
from fleetcast.contract.vocabulary import PROFILES
from fleetcast.errors import ConflictError, NotFoundError, PermissionDeniedError, UsageError
from fleetcast.remediation.engine import RemediationEngine
from fleetcast.remediation.executor import DryRunExecutor
from fleetcast.remediation.plan import LIFETIME, PlannedStep, canonical, content_hash, make_content
from fleetcast.remediation.playbook import load_playbooks, parse_playbook
from fleetcast.remediation.views import PlanStatus, PlanView
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings
from fleetcast.store.audit import list_audit
from fleetcast.store.engine import Store, open_store
from fleetcast.store.tables import ExecutionTable, PlanTable

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
FLEET = {"db1": "database", "db2": "database", "db3": "database", "db4": "database", "web1": "web_api"}
MINUTES = {"ml_compute": 2, "database": 5, "web_api": 3, "risk_analytics": 4, "data_ingest": 4, "conductor_mgmt": 5}
APPROVAL = {
    "ml_compute": "automatic below risk 70, else engineer",
    "database": "engineer; destructive steps director",
    "web_api": "automatic",
    "risk_analytics": "engineer",
    "data_ingest": "automatic below risk 70, else engineer",
    "conductor_mgmt": "engineer",
    "generic": "engineer",
}

ML_COMPUTE = load_playbooks()["ml_compute"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/plans.db")


def alerts_of(store: Store, upstreams: dict[str, list[str]] | None = None) -> AlertEngine:
    settings = AlertSettings(open_after_cycles=1, resolve_after_cycles=1, shadow=True)
    return AlertEngine(store, settings, Routing.default(), FleetMap(edges=upstreams))


def alert(store: Store, server: str = "db1", level: str = "P2", score: float = 75.0, at: datetime = NOW) -> AlertView:
    profile = FLEET.get(server, server)
    p = {"P1": 0.9, "P2": 0.6, "P3": 0.1}[level]
    risk = Risk(
        server=server, profile=profile, origin=at, p_30m=p, p_2h=0.9, p_8h=0.95, open=False, level=level,
        score=score, metric="cpu_iowait", metric_probabilities={"cpu_iowait": 0.95}, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip
    (opened,) = alerts_of(store).observe([risk], at).opened
    return opened


def proposed(store: Store, **fields: object) -> PlanView:
    plan = RemediationEngine(store).propose(alert(store, **fields), NOW, FLEET)  # type: ignore[arg-type]
    assert plan is not None
    return plan


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_its_playbook(profile: str) -> None:
    playbook = load_playbooks()[profile]
    assert playbook.profile == profile
    assert sum(step.seconds for step in playbook.steps) == 60 * MINUTES.get(profile, 10)
    assert playbook.approval_words() == APPROVAL[profile]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("{server}", "{password}", "unknown placeholders"),
        ("automatic: never", "automatic: below", "below_score"),
        ("seconds: 60", "seconds: 0", "greater than 0"),
        ("title:", "titel:", "titel"),
        ("action: page", "action: 'rm -rf'", "pattern"),
    ],
)
def test_a_wrong_playbook_is_refused_with_the_reason(before: str, after: str, reason: str) -> None:
    path = Path(__file__).parents[2] / "fleetcast/remediation/playbooks/generic.yaml"
    with pytest.raises(UsageError, match=f"(?s)mine is wrong.*{reason}"):
        parse_playbook(path.read_text().replace(before, after, 1), "mine")


def test_a_plan_says_what_would_be_done_by_whose_leave_and_what_it_touches(store: Store) -> None:
    plan = proposed(store)
    assert (plan.status, plan.playbook, plan.dry_run, plan.automatic) == ("proposed", "database", True, False)
    assert [step.wording for step in plan.steps] == [
        "would have lowered the connection pool limit of db1",
        "would have moved the reads of db1 to its replicas",
    ]
    assert (plan.approver_role, plan.estimated_s) == ("engineer", 180)
    assert (plan.blast_radius.servers, plan.blast_radius.share_of_profile) == (1, 0.25)
    assert "cpu_iowait of db1" in plan.expected_effect
    assert plan.expires_at == NOW + LIFETIME


def test_an_alert_has_one_plan(store: Store) -> None:
    found = alert(store)
    engine = RemediationEngine(store)
    first = engine.propose(found, NOW, FLEET)
    assert engine.propose(found, NOW + timedelta(minutes=5), {}) == first
    assert engine.list_plans(NOW) == [first]


def test_there_is_no_plan_for_what_is_over_explained_or_unknown(store: Store) -> None:
    over = alert(store)
    alerts_of(store).resolve(over.id, "ann", NOW)
    engine = RemediationEngine(store)
    assert engine.propose(over, NOW, FLEET) is None
    later = NOW + timedelta(minutes=5)
    both = [alert_risk(server, later) for server in ("db2", "web1")]
    opened = alerts_of(store, {"web1": ["db2"]}).observe(both, later).opened
    plans = {view.server: engine.propose(view, later, FLEET) for view in opened}
    assert plans["web1"] is None
    assert plans["db2"] is not None
    with pytest.raises(NotFoundError):
        engine.propose(over.model_copy(update={"id": 99}), NOW, FLEET)


def alert_risk(server: str, at: datetime) -> Risk:
    return Risk(
        server=server, profile=FLEET[server], origin=at, p_30m=0.9, p_2h=0.9, p_8h=0.9, open=False, level="P1",
        score=90.0, metric="cpu_iowait", metric_probabilities={"cpu_iowait": 0.9}, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


def test_a_server_of_an_unknown_profile_gets_the_generic_playbook(store: Store) -> None:
    assert proposed(store, server="something else").playbook == "generic"


def test_destructive_steps_come_at_p1_only_and_need_the_director(store: Store) -> None:
    plan = proposed(store, level="P1")
    assert plan.steps[-1].action == "kill_lock_holder"
    assert plan.approver_role == "director"
    engine = RemediationEngine(store)
    with pytest.raises(PermissionDeniedError, match=r"director.*'admin'"):
        engine.approve(plan.id, plan.hash, "ann", {"approve"}, NOW)
    assert engine.approve(plan.id, plan.hash, "dora", {"admin"}, NOW).status == "approved"


@pytest.mark.parametrize(
    ("server", "score", "automatic"),
    [("web1", 99.0, True), ("ml_compute", 69.9, True), ("ml_compute", 70.0, False), ("db1", 1.0, False)],
)
def test_the_policy_approves_what_the_playbook_lets_it_and_is_named(
    store: Store, server: str, score: float, automatic: bool
) -> None:
    plan = proposed(store, server=server, score=score)
    assert plan.automatic == automatic
    assert (plan.status, plan.approved_by) == (("approved", "policy") if automatic else ("proposed", None))
    assert plan.dry_run
    with store.reading() as session:
        approvals = [entry.actor for entry in list_audit(session) if entry.action.startswith("approve plan")]
    assert approvals == (["policy"] if automatic else [])


def test_a_person_called_policy_is_no_policy(store: Store) -> None:
    plan = proposed(store)
    assert not RemediationEngine(store).approve(plan.id, plan.hash, "policy", {"approve"}, NOW).automatic


def test_an_approval_holds_for_the_hash_that_was_read_and_no_other(store: Store) -> None:
    plan = proposed(store)
    engine = RemediationEngine(store)
    with pytest.raises(ConflictError, match=plan.hash):
        engine.approve(plan.id, "0" * 64, "ann", {"approve"}, NOW)
    assert engine.get(plan.id, NOW).status == "proposed"
    approved = engine.approve(plan.id, plan.hash, "ann", {"approve"}, NOW)
    assert (approved.status, approved.approved_by, approved.approved_at) == ("approved", "ann", NOW)
    with pytest.raises(ConflictError, match="is approved"):
        engine.approve(plan.id, plan.hash, "bob", {"approve"}, NOW)


@pytest.mark.parametrize("scopes", [set(), {"read"}, {"operate", "write"}])
def test_approving_and_rejecting_need_the_scope(store: Store, scopes: set[str]) -> None:
    plan = proposed(store)
    engine = RemediationEngine(store)
    with pytest.raises(PermissionDeniedError, match="'approve'"):
        engine.approve(plan.id, plan.hash, "ann", scopes, NOW)
    with pytest.raises(PermissionDeniedError, match="'approve'"):
        engine.reject(plan.id, "ann", scopes, NOW)


def test_a_plan_that_was_changed_in_the_database_is_refused(store: Store) -> None:
    plan = proposed(store)
    engine = RemediationEngine(store)
    engine.approve(plan.id, plan.hash, "ann", {"approve"}, NOW)
    with store.session() as session:
        content = session.scalars(select(PlanTable.content)).one().replace("db1", "db2")
        session.execute(update(PlanTable).values(content=content))
    with pytest.raises(ConflictError, match="no longer fits its hash"):
        engine.execute(plan.id, "ann", NOW)
    with store.session() as session:
        session.execute(update(PlanTable).values(hash=content_hash(content)))
    with pytest.raises(ConflictError, match="approval of plan"):
        engine.execute(plan.id, "ann", NOW)


def test_a_plan_expires_and_is_followed_by_a_new_one(store: Store) -> None:
    found = alert(store)
    engine = RemediationEngine(store)
    plan = engine.propose(found, NOW, FLEET)
    assert plan is not None
    late = NOW + LIFETIME
    assert engine.get(plan.id, late - timedelta(seconds=1)).status == "proposed"
    assert [view.status for view in engine.list_plans(late, "expired")] == ["expired"]
    with pytest.raises(ConflictError, match="is expired"):
        engine.approve(plan.id, plan.hash, "ann", {"approve"}, late)
    again = engine.propose(found, late, FLEET)
    assert again is not None
    assert again.id != plan.id
    assert again.hash != plan.hash


def test_nothing_is_executed_that_is_not_approved(store: Store) -> None:
    plan = proposed(store)
    engine = RemediationEngine(store)
    with pytest.raises(ConflictError, match="is proposed"):
        engine.execute(plan.id, "ann", NOW)
    assert engine.reject(plan.id, "ann", {"approve"}, NOW).status == "rejected"
    with pytest.raises(ConflictError, match="is rejected"):
        engine.execute(plan.id, "ann", NOW)
    with pytest.raises(NotFoundError):
        engine.execute(99, "ann", NOW)


def test_executing_twice_records_every_step_once(store: Store) -> None:
    plan = proposed(store, server="web1")
    engine = RemediationEngine(store)
    done = engine.execute(plan.id, "ann", NOW)
    assert (done.status, done.executed_by, done.executed_at) == ("executed", "ann", NOW)
    assert {step.status for step in done.steps} == {"would have run"}
    assert all(step.wording.startswith("would have ") for step in done.steps)
    assert len({step.action_id for step in done.steps}) == len(done.steps)
    assert engine.execute(plan.id, "bob", NOW + timedelta(minutes=1)) == done
    with pytest.raises(ConflictError, match="has been started"):
        engine.reject(plan.id, "ann", {"approve"}, NOW)
    with store.reading() as session:
        assert len(session.scalars(select(ExecutionTable)).all()) == len(done.steps)
        assert [entry.actor for entry in list_audit(session) if entry.action.startswith("execute")] == ["ann"]


class Meeting(DryRunExecutor):
    """Keeps every call of a step waiting for another one, for a while; remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.inside = threading.Event()
        self.both = threading.Barrier(2)

    def perform(self, action_id: str, step: PlannedStep) -> str:
        self.calls.append(action_id)
        self.inside.set()
        with suppress(threading.BrokenBarrierError):
            self.both.wait(0.5)
        return super().perform(action_id, step)


def test_two_who_execute_at_once_perform_each_step_once(store: Store) -> None:
    plan = proposed(store, server="web1")
    executor = Meeting()
    engine = RemediationEngine(store, executor)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(engine.execute, plan.id, "ann", NOW)
        executor.inside.wait()
        second = pool.submit(engine.execute, plan.id, "bob", NOW)
        assert first.result() == second.result()
    assert executor.calls == [step.action_id for step in plan.steps]


class Interleaved(Store):
    """Lets something happen right after its first transaction."""

    def __init__(self, store: Store, then: Callable[[], object]) -> None:
        super().__init__(store.engine)
        self.then: list[Callable[[], object]] = [then]

    @contextmanager
    def session(self) -> Iterator[Session]:
        with super().session() as session:
            yield session
        while self.then:
            self.then.pop()()


def test_a_plan_rejected_while_its_execution_begins_stays_rejected(store: Store) -> None:
    plan = proposed(store, server="web1")
    other = RemediationEngine(store)
    engine = RemediationEngine(Interleaved(store, lambda: other.reject(plan.id, "ann", {"approve"}, NOW)))
    with pytest.raises(ConflictError, match="is rejected"):
        engine.execute(plan.id, "bob", NOW)
    found = engine.get(plan.id, NOW)
    assert found.status == "rejected"
    assert {step.status for step in found.steps} == {"planned"}


@pytest.mark.parametrize("status", ["proposed", "approved", "executed", "rejected", "expired"])
def test_the_limit_counts_plans_of_the_status_asked_for(store: Store, status: PlanStatus) -> None:
    engine = RemediationEngine(store)
    late = NOW + LIFETIME
    for number in range(10):
        server = f"db{number}"
        plan = engine.propose(alert(store, server, at=NOW + timedelta(minutes=5 * number)), NOW, FLEET)
        assert plan is not None
        if number % 5 in (1, 2):
            engine.approve(plan.id, plan.hash, "ann", {"approve"}, NOW)
        if number % 5 == 2:
            engine.execute(plan.id, "ann", NOW)
        if number % 5 == 3:
            engine.reject(plan.id, "ann", {"approve"}, NOW)
    now = late if status == "expired" else NOW
    everything = [plan for plan in engine.list_plans(now) if plan.status == status]
    assert everything
    assert engine.list_plans(now, status) == everything
    assert engine.list_plans(now, status, limit=1) == everything[:1]
    assert engine.list_plans(now, status, limit=1)[0].status == status


class Interrupted(BaseException):
    """The process ends here."""


class Crashing(DryRunExecutor):
    """Ends the process once, before or after the step with this number; counts effects by action id."""

    def __init__(self, at: int, after: bool) -> None:
        self.left, self.after, self.effects = at, after, set[str]()

    def perform(self, action_id: str, step: PlannedStep) -> str:
        self.left -= 1
        if self.left == -1 and not self.after:
            raise Interrupted
        self.effects.add(action_id)
        if self.left == -1:
            raise Interrupted
        return super().perform(action_id, step)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_crash_between_steps_is_resumed_where_it_happened(store: Store, at: int, after: bool) -> None:
    plan = proposed(store, server="web1")
    executor = Crashing(at, after)
    engine = RemediationEngine(store, executor)
    with pytest.raises(Interrupted):
        engine.execute(plan.id, "ann", NOW)
    between = engine.get(plan.id, NOW)
    assert [step.status for step in between.steps] == [*["would have run"] * at, "started", "planned", "planned"][:3]
    assert between.status == "approved"
    later = NOW + timedelta(minutes=1)
    done = engine.execute(plan.id, "bob", later)
    assert executor.effects == {step.action_id for step in done.steps}
    assert [step.finished_at for step in done.steps] == [NOW] * at + [later] * (3 - at)
    with store.reading() as session:
        assert len(session.scalars(select(ExecutionTable)).all()) == 3


@settings(deadline=None)
@given(st.sampled_from(["server", "level", "score", "id"]), st.text(min_size=1, max_size=5), st.integers(2, 9))
def test_the_hash_changes_with_anything_that_the_plan_says(field: str, text: str, number: int) -> None:
    view = AlertView(
        id=1, key="db1/cpu_iowait", server="db1", profile="ml_compute", metric="cpu_iowait", level="P2", state="open",
        score=75.0, p_30m=0.5, p_8h=0.9, first_seen_at=NOW, opened_at=NOW, updated_at=NOW, resolved_at=None,
        acknowledged_by=None, acknowledged_at=None, inhibited_by=None, message="", route=[], escalation=[],
        timeline=[], notifications=[],
    )  # fmt: skip
    change = {"server": f"db1{text}", "level": "P1", "score": 69.0, "id": number}[field]

    def hash_of(found: AlertView) -> str:
        return content_hash(canonical(make_content(found, ML_COMPUTE, NOW, FLEET, dry_run=True)))

    assert hash_of(view) == hash_of(view.model_copy())
    assert hash_of(view) != hash_of(view.model_copy(update={field: change}))
