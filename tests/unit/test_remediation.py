"""Remediation asks first: one plan an incident, approved by somebody else, for exactly what was read, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from fleetcast.alerting.fleet import FleetMap, ServerRule
from fleetcast.errors import ConflictError, NotFoundError, PermissionDeniedError
from fleetcast.remediation.fleet import Surroundings
from fleetcast.remediation.plan import (
    LIFETIME,
    Subject,
    action_id,
    canonical,
    content_hash,
    is_held_out,
    make_content,
)
from fleetcast.remediation.playbook import load_playbooks
from fleetcast.remediation.views import PlanStatus
from fleetcast.settings import RemediationSettings
from fleetcast.store.tables_remediation import EffectTable, ExecutionTable, PlanTable
from tests.desk import FLEET, NOW, Desk, new_store

ML_COMPUTE = load_playbooks()["ml_compute"]
AROUND = Surroundings(FLEET, [("db1", "db2"), ("web1", "db1")])


@pytest.fixture
def desk() -> Iterator[Desk]:
    with new_store() as store:
        yield Desk(store)


def test_a_plan_says_what_would_be_done_by_whose_leave_and_what_it_touches(desk: Desk) -> None:
    plan = desk.engine.propose(desk.alert(), AROUND)
    assert plan is not None
    assert (plan.status, plan.playbook, plan.dry_run, plan.automatic) == ("proposed", "database", True, False)
    assert [step.wording for step in plan.steps] == [
        "would have lowered the connection pool limit of db1",
        "would have moved the reads of db1 to its replicas",
    ]
    assert plan.steps[0].call == "PUT /servers/db1/pool at database_api"
    assert (plan.approver_role, plan.estimated_s, plan.servers) == ("engineer", 180, ["db1"])
    radius = plan.blast_radius
    assert (radius.servers, radius.share_of_profile, radius.share_of_cell) == (1, 1 / 4, 1 / 3)
    assert plan.expected_effect.startswith("cpu_iowait of db1 falls")
    assert plan.expected_effect.endswith("its effect has not been measured yet")
    assert plan.expires_at == NOW + LIFETIME


def test_an_incident_has_one_plan(desk: Desk) -> None:
    alert = desk.alert()
    first = desk.engine.propose(alert, AROUND)
    desk.clock.on(minutes=5)
    assert desk.engine.propose(alert, Surroundings({})) == first
    assert desk.engine.list_plans() == [first]


def test_there_is_no_plan_for_what_is_over_or_unknown(desk: Desk) -> None:
    over = desk.alert()
    desk.alerts.resolve(over, "ann", NOW)
    assert desk.engine.propose(over, AROUND) is None
    with pytest.raises(NotFoundError):
        desk.engine.propose(99, AROUND)


def test_a_server_of_an_unknown_profile_gets_the_generic_playbook(desk: Desk) -> None:
    assert desk.proposed("something else").playbook == "generic"


def test_an_incident_of_several_servers_is_acted_on_server_by_server() -> None:
    subject = Subject(1, ("pp1", "pp2"), "conductor_mgmt", "cpu_iowait", "P2", 75.0)
    content = make_content(
        subject, load_playbooks()["conductor_mgmt"], Surroundings({}), RemediationSettings(), None, "policy", NOW
    )
    assert [(step.name, step.server) for step in content.steps] == [
        ("page on-call", None),
        ("fail over the scheduler", "pp1"),
        ("fail over the scheduler", "pp2"),
    ]
    assert content.blast_radius.servers == 2


def test_servers_of_one_incident_with_the_same_trouble_share_a_plan_and_dependants_are_left(desk: Desk) -> None:
    desk.fleet = FleetMap([ServerRule(match="db.*", labels={"cell": "a"})], {"web1": ["db1"]})
    head, others = desk.alert("db1"), [desk.alert("db2"), desk.alert("web1")]
    plan = desk.engine.propose(head, AROUND)
    assert plan is not None
    assert [step.server for step in plan.steps] == ["db1", "db1", "db2", "db2"]
    assert plan.blast_radius.servers == 2
    assert [desk.engine.propose(one, AROUND) for one in others] == [None, None]


def test_a_plan_that_waits_is_replaced_when_its_incident_grows_and_an_approved_one_is_not(desk: Desk) -> None:
    desk.fleet = FleetMap([ServerRule(match="db.*", labels={"cell": "a"})])
    head = desk.alert("db1")
    small = desk.engine.propose(head, AROUND)
    assert small is not None
    desk.alert("db2")
    grown = desk.engine.propose(head, AROUND)
    assert grown is not None
    assert (grown.servers, desk.engine.propose(head, AROUND)) == (["db1", "db2"], grown)
    left = desk.engine.get(small.id)
    assert (left.status, left.reason) == ("expired", "the incident has grown by db2")
    with pytest.raises(ConflictError, match="is expired"):
        desk.engine.approve(small.id, small.hash, "ann", {"approve"})
    approved = desk.engine.approve(grown.id, grown.hash, "ann", {"approve"})
    desk.alert("db3")
    assert desk.engine.propose(head, AROUND) == approved, "what was approved is what is done"


def test_the_worst_of_an_incident_says_what_is_done_and_by_whose_leave(desk: Desk) -> None:
    rules = [ServerRule(match="db.*", labels={"cell": "a"}), ServerRule(match="ml.*", labels={"cell": "b"})]
    desk.fleet = FleetMap(rules)
    head = desk.alert("db1", "P3", 50.0)
    desk.alert("db2", "P1", 95.0)
    plan = desk.engine.propose(head, AROUND)
    assert plan is not None
    assert (plan.approver_role, plan.servers) == ("director", ["db1", "db2"])
    assert plan.steps[-1].destructive
    desk.resolve_after_cycles = 6
    desk.alert("db2", "P4")
    calmer = desk.engine.propose(head, AROUND, "ann")
    assert calmer is not None
    assert (calmer.approver_role, calmer.servers) == ("engineer", ["db1"])
    desk.settings = RemediationSettings.model_validate({"automatic": "always", "mode": "live", "holdout_share": 0})
    calm = desk.alert("ml1", "P3", 50.0)
    desk.alert("ml2", "P2", 80.0)
    both = desk.engine.propose(calm, AROUND)
    assert both is not None
    assert (both.automatic, both.status) == (False, "proposed")


def test_a_plan_that_waits_is_replaced_when_its_incident_gets_more_urgent(desk: Desk) -> None:
    head = desk.alert("db1", "P2")
    first = desk.engine.propose(head, AROUND)
    assert first is not None
    desk.alert("db1", "P1")
    worse = desk.engine.propose(head, AROUND)
    assert worse is not None
    assert worse.approver_role == "director"
    assert desk.engine.get(first.id).reason == "the incident is at P1"
    desk.alert("db1", "P2")
    assert desk.engine.propose(head, AROUND) == worse


def test_destructive_steps_come_at_p1_only_and_need_the_director(desk: Desk) -> None:
    plan = desk.proposed(level="P1")
    assert plan.steps[-1].action == "kill_lock_holder"
    assert plan.steps[-1].destructive
    assert plan.approver_role == "director"
    with pytest.raises(PermissionDeniedError, match=r"director.*'admin'"):
        desk.engine.approve(plan.id, plan.hash, "ann", {"approve"})
    assert desk.engine.approve(plan.id, plan.hash, "dora", {"admin"}).status == "approved"


@pytest.mark.parametrize(
    ("server", "score", "setting", "mode", "automatic"),
    [
        ("web1", 99.0, "dry_run", "dry_run", True),
        ("ml_compute", 69.9, "dry_run", "dry_run", True),
        ("ml_compute", 70.0, "always", "dry_run", False),
        ("db1", 1.0, "always", "dry_run", False),
        ("web1", 1.0, "never", "dry_run", False),
        ("web1", 1.0, "dry_run", "live", False),
        ("web1", 1.0, "always", "live", True),
    ],
)
def test_the_policy_approves_what_both_the_playbook_and_the_settings_let_it(
    desk: Desk, server: str, score: float, setting: str, mode: str, automatic: bool
) -> None:
    desk.settings = RemediationSettings.model_validate({"automatic": setting, "mode": mode, "holdout_share": 0})
    plan = desk.proposed(server, score=score)
    assert plan.automatic == automatic
    assert (plan.status, plan.approved_by) == (("approved", "policy") if automatic else ("proposed", None))
    assert desk.audited("approve plan") == (["policy"] if automatic else [])


def test_who_asked_for_a_plan_does_not_approve_it(desk: Desk) -> None:
    alert = desk.alert()
    first = desk.engine.propose(alert, AROUND)
    plan = desk.engine.propose(alert, AROUND, "ann")
    assert first is not None
    assert plan is not None
    assert desk.engine.get(first.id).reason == "ann asked for a new one"
    with pytest.raises(PermissionDeniedError, match="ann asked for plan"):
        desk.engine.approve(plan.id, plan.hash, "ann", {"admin"})
    assert desk.engine.approve(plan.id, plan.hash, "bob", {"approve"}).approved_by == "bob"
    with pytest.raises(ConflictError, match="no other beside it"):
        desk.engine.propose(alert, AROUND, "ann")


def test_who_asked_for_a_plan_takes_it_back_without_the_scope(desk: Desk) -> None:
    plan = desk.engine.propose(desk.alert(), AROUND, "ann")
    assert plan is not None
    assert desk.engine.reject(plan.id, "ann", {"operate"}).status == "rejected"


def test_nobody_is_called_like_the_policy(desk: Desk) -> None:
    with pytest.raises(PermissionDeniedError, match="'policy'"):
        desk.engine.propose(desk.alert(), AROUND, "policy")
    plan = desk.proposed()
    assert not desk.engine.approve(plan.id, plan.hash, "policy", {"approve"}).automatic


def test_an_approval_holds_for_the_hash_that_was_read_and_no_other(desk: Desk) -> None:
    plan = desk.proposed()
    with pytest.raises(ConflictError, match=plan.hash):
        desk.engine.approve(plan.id, "0" * 64, "ann", {"approve"})
    assert desk.engine.get(plan.id).status == "proposed"
    approved = desk.engine.approve(plan.id, plan.hash, "ann", {"approve"})
    assert (approved.status, approved.approved_by, approved.approved_at) == ("approved", "ann", NOW)
    with pytest.raises(ConflictError, match="is approved"):
        desk.engine.approve(plan.id, plan.hash, "bob", {"approve"})


def test_an_approval_expires(desk: Desk) -> None:
    plan = desk.approved()
    desk.clock.on(minutes=desk.settings.approval_minutes)
    assert desk.engine.get(plan.id).status == "expired"
    with pytest.raises(ConflictError, match="is expired"):
        desk.runner.execute(plan.id, "ann")
    assert desk.engine.get(plan.id).started_at is None


@pytest.mark.parametrize("scopes", [set(), {"read"}, {"operate", "write"}])
def test_approving_and_rejecting_need_the_scope(desk: Desk, scopes: set[str]) -> None:
    plan = desk.proposed()
    with pytest.raises(PermissionDeniedError, match="'approve'"):
        desk.engine.approve(plan.id, plan.hash, "ann", scopes)
    with pytest.raises(PermissionDeniedError, match="'approve'"):
        desk.engine.reject(plan.id, "ann", scopes)


def test_a_plan_that_was_changed_in_the_database_is_refused(desk: Desk) -> None:
    plan = desk.approved()
    with desk.store.session() as session:
        content = session.scalars(select(PlanTable.content)).one().replace("db1", "db2")
        session.execute(update(PlanTable).values(content=content))
    with pytest.raises(ConflictError, match="no longer fits its hash"):
        desk.runner.execute(plan.id, "ann")
    with desk.store.session() as session:
        session.execute(update(PlanTable).values(hash=content_hash(content)))
    with pytest.raises(ConflictError, match="approval of plan"):
        desk.runner.execute(plan.id, "ann")


def test_a_plan_expires_and_is_followed_by_a_new_one(desk: Desk) -> None:
    alert = desk.alert()
    plan = desk.engine.propose(alert, AROUND)
    assert plan is not None
    desk.clock.on(seconds=LIFETIME.total_seconds() - 1)
    assert desk.engine.get(plan.id).status == "proposed"
    desk.clock.on(seconds=1)
    assert [view.status for view in desk.engine.list_plans("expired")] == ["expired"]
    with pytest.raises(ConflictError, match="is expired"):
        desk.engine.approve(plan.id, plan.hash, "ann", {"approve"})
    again = desk.engine.propose(alert, AROUND)
    assert again is not None
    assert (again.id, again.hash) != (plan.id, plan.hash)


def test_nothing_is_executed_that_is_not_approved(desk: Desk) -> None:
    plan = desk.proposed()
    with pytest.raises(ConflictError, match="is proposed"):
        desk.runner.execute(plan.id, "ann")
    assert desk.engine.reject(plan.id, "ann", {"approve"}).status == "rejected"
    with pytest.raises(ConflictError, match="is rejected"):
        desk.runner.execute(plan.id, "ann")
    with pytest.raises(NotFoundError):
        desk.runner.execute(99, "ann")


def test_a_dry_run_says_what_would_have_been_done_once(desk: Desk) -> None:
    plan = desk.approved("web1")
    done = desk.runner.execute(plan.id, "ann")
    assert (done.status, done.executed_by, done.executed_at) == ("executed", "ann", NOW)
    assert {step.status for step in done.steps} == {"would have run"}
    assert all(step.wording.startswith("would have ") for step in done.steps)
    assert len({step.action_id for step in done.steps}) == len(done.steps)
    desk.clock.on(minutes=1)
    assert desk.runner.execute(plan.id, "bob") == done
    with pytest.raises(ConflictError, match="is executed"):
        desk.engine.reject(plan.id, "ann", {"approve"})
    with pytest.raises(ConflictError, match="nothing to take back"):
        desk.runner.roll_back(plan.id, "ann")
    with desk.store.reading() as session:
        assert len(session.scalars(select(ExecutionTable)).all()) == len(done.steps)
    assert desk.audited("execute plan") == ["ann"]


def test_the_limit_counts_plans_of_the_status_asked_for(desk: Desk) -> None:
    for number in range(8):
        plan = desk.proposed(f"db{number}")
        if number % 4 in (1, 2):
            desk.engine.approve(plan.id, plan.hash, "ann", {"approve"})
        if number % 4 == 2:
            desk.runner.execute(plan.id, "ann")
        if number % 4 == 3:
            desk.engine.reject(plan.id, "ann", {"approve"})
    found: dict[PlanStatus, int] = {"proposed": 2, "approved": 2, "executed": 2, "rejected": 2}
    late: dict[PlanStatus, int] = {"proposed": 0, "approved": 0, "executed": 2, "rejected": 2, "expired": 4}
    for counts in (found, late):
        for status, count in counts.items():
            everything = [plan for plan in desk.engine.list_plans() if plan.status == status]
            assert len(everything) == count
            assert desk.engine.list_plans(status) == everything
            assert desk.engine.list_plans(status, limit=1) == everything[:1]
        desk.clock.on(hours=2)


@given(st.sampled_from(["servers", "level", "score", "alert_id"]), st.text(min_size=1, max_size=5), st.integers(2, 9))
def test_the_hash_changes_with_anything_that_the_plan_says(field: str, text: str, number: int) -> None:
    base = {
        "alert_id": 1, "servers": ("db1",), "profile": "ml_compute", "metric": "cpu_iowait", "level": "P2",
        "score": 75.0,
    }  # fmt: skip
    change = {"servers": (f"db1{text}",), "level": "P1", "score": 69.0, "alert_id": number}[field]

    def hash_of(**fields: object) -> str:
        subject = Subject(**{**base, **fields})  # type: ignore[arg-type]
        content = make_content(subject, ML_COMPUTE, AROUND, RemediationSettings(), None, "policy", NOW)
        return content_hash(canonical(content))

    assert hash_of() == hash_of()
    assert hash_of() != hash_of(**{field: change})


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 9), st.sampled_from(["step", "undo"])), unique=True))
def test_every_action_has_an_id_of_its_own(actions: list[tuple[int, int, str]]) -> None:
    ids = {action_id(plan, "0" * 64, step, kind) for plan, step, kind in actions}
    assert len(ids) == len(actions)


def test_the_held_out_share_is_about_what_was_asked_for_and_grows_with_it() -> None:
    names = [f"ppweb{number:04d}" for number in range(4000)]
    small = {name for name in names if is_held_out(name, 0.05)}
    assert 0.04 < len(small) / len(names) < 0.06
    assert small <= {name for name in names if is_held_out(name, 0.1)}
    assert not [name for name in names if is_held_out(name, 0.0)]


def test_a_server_that_is_held_out_gets_no_plan_and_is_counted(desk: Desk) -> None:
    desk.settings = RemediationSettings(mode="live", holdout_share=0.999)
    alert = desk.alert()
    assert desk.engine.propose(alert, AROUND) is None
    assert desk.engine.propose(alert, AROUND) is None
    with desk.store.reading() as session:
        (case,) = session.scalars(select(EffectTable)).all()
        assert (case.arm, case.playbook, case.incidents) == ("control", "database", None)


def test_a_plan_lives_no_longer_than_it_says(desk: Desk) -> None:
    """An approval never makes a plan live longer."""
    plan = desk.proposed()
    desk.clock.on(seconds=LIFETIME.total_seconds() - 60)
    approved = desk.engine.approve(plan.id, plan.hash, "ann", {"approve"})
    assert approved.expires_at == NOW + LIFETIME
    assert approved.expires_at - desk.clock.now() == timedelta(seconds=60)
