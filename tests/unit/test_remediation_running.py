"""An approved plan is carried out within its limits, looked at afterwards, and taken back when it did not help."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fleetcast.alerting.fleet import FleetMap, ServerRule
from fleetcast.errors import ConflictError, LimitError
from fleetcast.remediation import control
from fleetcast.remediation.calls import HttpCall
from fleetcast.remediation.checks import Answers
from fleetcast.remediation.claim import Heart, claim
from fleetcast.remediation.effects import estimate, estimate_share, in_words, note_trial, settle
from fleetcast.remediation.fleet import Surroundings
from fleetcast.remediation.http_executor import HttpExecutor
from fleetcast.settings import AlertSettings, RemediationSettings
from fleetcast.store.audit import list_audit
from fleetcast.store.leases import see_lease, take_lease
from fleetcast.store.maintenance import MaintenanceWindow, plan_maintenance
from tests.desk import NOW, Desk, live, new_store
from tests.target import Target, running

PLAYBOOKS = Path(__file__).parents[2] / "fleetcast/remediation/playbooks"
POOL, READS = "PUT /servers/db1/pool", "PUT /servers/db1/reads"
BACK = ["DELETE /servers/db1/reads", "DELETE /servers/db1/pool"]


@pytest.fixture
def target() -> Iterator[Target]:
    with running() as found:
        yield found


@pytest.fixture
def desk(target: Target) -> Iterator[Desk]:
    with new_store() as store:
        yield Desk(store, live({"database_api": target.settings()}))


def effects_of(target: Target) -> list[str]:
    return [what for _, what in target.effects]


def test_an_approved_plan_changes_the_target_and_waits_for_its_post_check(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    done = desk.runner.execute(plan.id, "bob")
    assert effects_of(target) == [POOL, READS]
    assert [one["Idempotency-Key"] for one in target.headers] == [step.action_id for step in plan.steps]
    assert target.bodies == [{"share_of_limit": 0.7}, {"at": "replicas"}]
    assert (done.status, [step.status for step in done.steps]) == ("verifying", ["done", "done"])
    assert desk.alerts.get(plan.alert_id).state == "mitigating"
    assert desk.runner.verify() == []
    desk.alerts.resolve(done.alert_id, "ann", desk.clock.now())
    assert desk.runner.verify() == [plan.id]
    assert desk.engine.get(plan.id).status == "executed"
    assert desk.audited("action done") == ["bob", "bob"]


def test_executing_again_repeats_nothing(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    first = desk.runner.execute(plan.id, "bob")
    assert desk.runner.execute(plan.id, "bob") == first
    assert len(target.seen) == 2


def test_a_plan_that_does_not_help_is_taken_back_last_step_first(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    desk.runner.execute(plan.id, "bob")
    desk.clock.on(minutes=44)
    assert desk.runner.verify() == []
    desk.clock.on(minutes=1)
    assert desk.runner.verify() == [plan.id]
    found = desk.engine.get(plan.id)
    assert effects_of(target)[2:] == BACK
    assert target.headers[2]["FleetCast-Undoes"] == plan.steps[1].action_id
    assert (found.status, [step.status for step in found.steps]) == ("rolled_back", ["taken back"] * 2)
    assert desk.alerts.get(plan.alert_id).state == "open"
    assert "the post-check" in str(found.reason)


def test_a_risk_that_falls_is_enough_for_the_post_check(desk: Desk) -> None:
    plan = desk.approved()
    desk.runner.execute(plan.id, "bob")
    desk.clock.on(minutes=5)
    desk.alert(level="P3")
    assert desk.runner.tend() == [plan.id]
    assert desk.engine.get(plan.id).status == "executed"


def test_a_risk_that_is_gone_is_enough_too_however_long_the_alert_takes_to_end(desk: Desk) -> None:
    desk.resolve_after_cycles = AlertSettings().resolve_after_cycles
    plan = desk.approved()
    desk.runner.execute(plan.id, "bob")
    desk.clock.on(minutes=5)
    desk.alert(level="P4")
    assert desk.alerts.get(plan.alert_id).level == "P2"
    assert desk.runner.tend() == [plan.id]
    assert desk.engine.get(plan.id).status == "executed"


def test_what_was_seen_before_the_plan_acted_is_no_success_of_it(desk: Desk) -> None:
    desk.resolve_after_cycles = AlertSettings().resolve_after_cycles
    plan = desk.approved()
    desk.alert(level="P4")
    desk.runner.execute(plan.id, "bob")
    assert desk.runner.tend() == []
    desk.clock.on(minutes=5)
    desk.alert(level="P4")
    assert desk.runner.tend() == [plan.id]


def test_a_plan_has_helped_when_all_its_servers_are_better(desk: Desk) -> None:
    desk.fleet = FleetMap([ServerRule(match="db.*", labels={"cell": "a"})])
    head = desk.alert("db1")
    desk.alert("db2")
    plan = desk.engine.propose(head, Surroundings({}))
    assert plan is not None
    desk.engine.approve(plan.id, plan.hash, "ann", {"approve"})
    desk.runner.execute(plan.id, "bob")
    desk.alert("db1", "P3")
    assert desk.runner.tend() == []
    desk.alert("db2", "P3")
    assert desk.runner.tend() == [plan.id]


def test_when_a_step_fails_those_before_it_are_taken_back(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    target.answers[READS] = [422]
    found = desk.runner.execute(plan.id, "bob")
    assert effects_of(target) == [POOL, "DELETE /servers/db1/pool"]
    assert (found.status, [step.status for step in found.steps]) == ("rolled_back", ["taken back", "failed"])
    assert "answered 422" in str(found.reason)


def test_what_cannot_be_taken_back_is_named(desk: Desk, target: Target) -> None:
    plan = desk.approved(level="P1")
    found = desk.runner.execute(plan.id, "bob")
    assert len(found.steps) == 3
    back = desk.runner.roll_back(plan.id, "carl")
    assert back.reason == "carl took it back; cannot be taken back: kill the longest lock holder"
    assert effects_of(target)[3:] == BACK


def test_what_is_not_taken_back_makes_the_plan_fail(desk: Desk, target: Target) -> None:
    target.answers = {BACK[0]: [500], READS: [422], BACK[1]: [404]}
    plan = desk.approved()
    found = desk.runner.execute(plan.id, "bob")
    assert found.status == "failed"
    assert "was not taken back: limit connections" in str(found.reason)


def test_a_target_that_answers_late_is_asked_again_under_the_same_id(desk: Desk, target: Target) -> None:
    target.drops = {POOL}
    plan = desk.approved()
    assert desk.runner.execute(plan.id, "bob").status == "verifying"
    assert target.seen == [POOL, POOL, READS]
    assert effects_of(target) == [POOL, READS]


def test_a_target_that_cannot_be_asked_is_not_sent_to_twice(desk: Desk, target: Target) -> None:
    target.drops, target.keyed = {POOL}, False
    desk.settings = live({"database_api": target.settings(honours_keys=False)})
    plan = desk.approved()
    found = desk.runner.execute(plan.id, "bob")
    assert target.seen == [POOL, "DELETE /servers/db1/pool"]
    assert (found.status, found.steps[0].status) == ("rolled_back", "taken back")


def test_a_target_with_a_look_up_is_asked_what_became_of_a_request(desk: Desk, target: Target) -> None:
    target.drops, target.keyed = {POOL}, False
    desk.settings = live({"database_api": target.settings(honours_keys=False, lookup="/actions/{action_id}")})
    plan = desk.approved()
    assert desk.runner.execute(plan.id, "bob").status == "verifying"
    assert target.seen == [POOL, READS]


@pytest.mark.parametrize(
    ("allow", "reason"),
    [
        (["PUT /servers/*/pool", "DELETE /servers/*/pool"], "does not allow PUT /servers/db1/reads"),
        ([], "does not allow PUT /servers/db1/pool"),
    ],
)
def test_a_call_that_is_not_allowed_is_found_before_anything_is_done(
    desk: Desk, target: Target, allow: list[str], reason: str
) -> None:
    desk.settings = live({"database_api": target.settings(allow=allow)})
    plan = desk.approved()
    with pytest.raises(ConflictError, match=reason):
        desk.runner.execute(plan.id, "bob")
    assert not target.seen
    assert desk.engine.get(plan.id).status == "approved"


def test_without_its_target_executor_or_token_nothing_is_begun(desk: Desk, target: Target, tmp_path: Path) -> None:
    plan = desk.approved()
    desk.settings = live({})
    with pytest.raises(ConflictError, match="no target 'database_api'"):
        desk.runner.execute(plan.id, "bob")
    desk.settings = live({"database_api": target.settings(token_file=tmp_path / "none")})
    with pytest.raises(ConflictError, match="cannot read the token"):
        desk.runner.execute(plan.id, "bob")
    web = desk.approved("ml_compute")
    with pytest.raises(ConflictError, match="no executor for kubernetes"):
        desk.runner.execute(web.id, "bob")
    assert not target.seen


def test_a_redirect_is_not_followed_and_the_token_is_sent(desk: Desk, target: Target, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    desk.settings = live({"database_api": target.settings(token_file=tmp_path / "token")})
    target.answers[POOL] = [307]
    plan = desk.approved()
    assert desk.runner.execute(plan.id, "bob").status == "rolled_back"
    assert target.seen == [POOL]
    assert target.headers[0]["Authorization"] == "Bearer s3cret"
    with desk.store.reading() as session:
        assert not [entry for entry in list_audit(session) if "s3cret" in str(entry)]


@pytest.mark.parametrize(
    ("path", "body", "header", "prefix", "accepted"),
    [
        ("/api/41/job/limit-pool/run", {"options": {"server": "db1"}}, "X-Rundeck-Auth-Token", "", 200),
        ("/api/v1/executions", {"action": "db.limit", "parameters": {"server": "db1"}}, "St2-Api-Key", "", 201),
        ("/api/v2/job_templates/7/launch/", {"limit": "db1"}, "Authorization", "Bearer ", 201),
    ],
)
def test_rundeck_stackstorm_and_awx_are_started_with_their_own_tokens(
    target: Target, tmp_path: Path, path: str, body: dict[str, Any], header: str, prefix: str, accepted: int
) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = target.settings(
        allow=[f"POST {path}"], token_file=tmp_path / "token", token_header=header, token_prefix=prefix
    )
    target.answers[f"POST {path}"] = [accepted]
    call = HttpCall(executor="http", target="runs", method="POST", path=path, body=body)
    assert HttpExecutor({"runs": settings}).perform("a", call).outcome == "done"
    assert (target.headers[0][header], target.bodies) == (f"{prefix}s3cret", [body])


def test_a_plan_made_for_another_mode_is_not_carried_out(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    desk.settings = RemediationSettings()
    with pytest.raises(ConflictError, match="made for the mode live, the setting is now dry_run"):
        desk.runner.execute(plan.id, "bob")
    assert not target.seen


def test_pre_checks_keep_a_plan_from_starting(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    with desk.store.session() as session:
        plan_maintenance(session, MaintenanceWindow("db1", NOW, desk.clock.now().replace(hour=10)), "ann", NOW)
    with pytest.raises(ConflictError, match=r"no server is in planned maintenance.*db1 is"):
        desk.runner.execute(plan.id, "bob")
    desk.clock.time = NOW.replace(minute=20)
    desk.alerts.resolve(plan.alert_id, "ann", NOW)
    with pytest.raises(ConflictError, match="the incident is still live"):
        desk.runner.execute(plan.id, "bob")
    assert not target.seen


def test_a_target_is_asked_before_and_after_the_steps(desk: Desk, target: Target, tmp_path: Path) -> None:
    text = (PLAYBOOKS / "database.yaml").read_text()
    ask = "    - {check: answers, target: database_api, path: '/servers/{server}/pool', status: 200}\n"
    (tmp_path / "ours.yaml").write_text(text.replace("  post:\n", f"{ask}  post:\n{ask}"))
    desk.settings = live({"database_api": target.settings()}, playbooks=tmp_path)
    asked = "GET /servers/db1/pool"
    target.answers[asked] = [503, 200, 404]
    plan = desk.approved()
    with pytest.raises(ConflictError, match="it answered 503; nothing was done"):
        desk.runner.execute(plan.id, "bob")
    assert desk.runner.execute(plan.id, "bob").status == "verifying"
    assert target.seen == [asked, asked, POOL, READS]
    desk.alerts.resolve(plan.alert_id, "ann", desk.clock.now())
    assert desk.runner.verify() == [plan.id]
    found = desk.engine.get(plan.id)
    assert (found.status, "it answered 404" in str(found.reason)) == ("rolled_back", True)
    assert found.post_checks[0] == "database_api answers 200 to GET /servers/db1/pool"


def test_a_check_of_a_target_that_is_away_does_not_hold(desk: Desk, target: Target) -> None:
    away = target.settings(url="http://127.0.0.1:9", timeout_s=1.0)
    desk.settings = live({"database_api": away})
    found = desk.runner.execute(desk.approved().id, "bob")
    assert (found.status, "was not sent" in str(found.reason)) == ("rolled_back", True)
    probe = HttpExecutor({"database_api": away}).probe
    check = Answers(check="answers", target="database_api", path="/servers/db1/pool")
    assert probe(check) == "no answer (ConnectError)"
    assert "no target" in str(probe(check.model_copy(update={"target": "nothing"})))


def test_the_kill_switch_stops_also_the_next_step_of_a_plan_under_way(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    target.held = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(desk.runner.execute, plan.id, "bob")
        target.arrived.wait(10)
        with desk.store.session() as session:
            control.stop(session, "carl", "something is wrong", desk.clock.now())
        target.held.set()
        with pytest.raises(LimitError, match="stopped by carl: something is wrong"):
            going.result()
    assert effects_of(target) == [POOL]
    found = desk.engine.get(plan.id)
    assert (found.status, [step.status for step in found.steps]) == ("executing", ["done", "planned"])
    assert "stands still" in str(found.reason)
    assert desk.runner.tend() == []
    with pytest.raises(LimitError):
        desk.runner.roll_back(plan.id, "carl")
    with desk.store.session() as session:
        control.release(session, "carl", desk.clock.now())
    assert desk.runner.tend() == [plan.id]
    assert effects_of(target) == [POOL, READS]
    assert (desk.audited("stop"), desk.audited("release")) == (["carl"], ["carl"])


def test_the_circuit_breaker_opens_when_plans_fail_in_a_row(desk: Desk, target: Target) -> None:
    desk.settings = live({"database_api": target.settings()}, breaker_failures=2)
    for server in ("db1", "db2"):
        target.answers[f"PUT /servers/{server}/reads"] = [422]
        assert desk.runner.execute(desk.approved(server).id, "bob").status == "rolled_back"
    third = desk.approved("db3")
    with pytest.raises(LimitError, match="stopped by circuit breaker: 2 plans in a row have failed"):
        desk.runner.execute(third.id, "bob")
    assert desk.audited("stop") == ["circuit breaker"]


@pytest.mark.parametrize(
    ("limits", "second", "reason"),
    [
        ({"max_concurrent": 1}, "web", "max_concurrent"),
        ({"max_concurrent_per_profile": 1}, "db2", "max_concurrent_per_profile"),
    ],
)
def test_no_more_plans_are_carried_out_at_a_time_than_allowed(
    desk: Desk, target: Target, limits: dict[str, int], second: str, reason: str
) -> None:
    desk.settings = live({"database_api": target.settings(), "pager": target.settings()}, **limits)
    one, other = desk.approved("db1"), desk.approved(second)
    target.held = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(desk.runner.execute, one.id, "bob")
        target.arrived.wait(10)
        try:
            with pytest.raises(LimitError, match=reason):
                desk.runner.execute(other.id, "bob")
        finally:
            target.held.set()
        going.result()
    assert desk.engine.get(other.id).status == "approved"


@pytest.mark.parametrize("name", ["max_actions_per_hour", "max_actions_per_hour_per_profile"])
def test_no_more_actions_are_begun_within_an_hour_than_allowed(desk: Desk, target: Target, name: str) -> None:
    desk.settings = live({"database_api": target.settings()}, **{name: 3, "approval_minutes": 90})
    one, other = desk.approved("db1"), desk.approved("db2")
    desk.runner.execute(one.id, "bob")
    with pytest.raises(LimitError, match=f"there were 4 actions.*{name}"):
        desk.runner.execute(other.id, "bob")
    desk.clock.on(minutes=61)
    assert desk.runner.execute(other.id, "bob").status == "verifying"


def test_a_server_is_left_alone_for_a_while_after_an_action(desk: Desk) -> None:
    first = desk.approved()
    desk.runner.execute(first.id, "bob")
    desk.alerts.resolve(first.alert_id, "ann", desk.clock.now())
    desk.runner.verify()
    desk.clock.on(minutes=40)
    again = desk.approved()
    assert again.id != first.id
    with pytest.raises(LimitError, match=r"db1 was acted on at .* left alone for 60 minutes"):
        desk.runner.execute(again.id, "bob")
    desk.clock.on(minutes=21)
    assert desk.runner.execute(again.id, "bob").status == "verifying"


def test_dry_runs_take_no_room(desk: Desk) -> None:
    desk.settings = RemediationSettings(max_actions_per_hour=1)
    for server in ("db1", "db2"):
        assert desk.runner.execute(desk.approved(server).id, "bob").status == "executed"


def test_two_who_execute_at_once_perform_each_step_once(desk: Desk, target: Target) -> None:
    """Two runners, as two processes have them: one carries out, the other is refused or finds it done."""
    desk.settings = live({"database_api": target.settings()}, takeover_s=1.0)
    plan = desk.approved()
    target.held = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(desk.runner.execute, plan.id, "ann")
        target.arrived.wait(10)
        with pytest.raises(ConflictError, match="is being carried out by"):
            desk.runner.execute(plan.id, "bob")
        target.held.set()
        assert first.result().executed_by == "ann"
    assert target.seen == [POOL, READS]


def test_who_was_taken_for_dead_writes_nothing_more(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    target.held = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(desk.runner.execute, plan.id, "ann")
        target.arrived.wait(10)
        with desk.store.session() as session:
            assert take_lease(session, f"plan/{plan.id}", "other", see_lease(session, f"plan/{plan.id}")) is not None
        target.held.set()
        with pytest.raises(ConflictError, match=r"holds plan/1 .* no more"):
            first.result()
    assert desk.engine.get(plan.id).steps[0].status == "started"
    assert effects_of(target) == [POOL]
    desk.settings = live({"database_api": target.settings()}, takeover_s=0.1)
    assert desk.runner.tend() == [plan.id]
    assert effects_of(target) == [POOL, READS]


def test_a_plan_that_expires_on_the_way_is_taken_back(desk: Desk, target: Target) -> None:
    plan = desk.approved()
    target.answers[POOL] = [200]
    original = desk.clock.now

    def later() -> object:
        if target.seen:
            desk.clock.time = NOW.replace(hour=12)
        return original()

    desk.clock.now = later  # type: ignore[method-assign,assignment]
    found = desk.runner.execute(plan.id, "bob")
    assert effects_of(target) == [POOL, "DELETE /servers/db1/pool"]
    assert "expired before the step 'move reads'" in str(found.reason)


def test_what_the_policy_approved_is_carried_out_without_anybody_asking(desk: Desk) -> None:
    desk.settings = RemediationSettings()
    plan = desk.proposed("web1")
    assert plan.automatic
    assert desk.runner.tend() == [plan.id]
    assert desk.engine.get(plan.id).executed_by == "policy"
    waits = desk.proposed("db1")
    assert desk.runner.tend() == []
    assert desk.engine.get(waits.id).status == "proposed"


def test_effects_of_executions_and_hold_outs_become_the_estimate_of_the_next_plan(desk: Desk) -> None:
    treated = desk.approved("db1")
    desk.runner.execute(treated.id, "bob")
    held = desk.alert("db2")
    desk.settings = desk.settings.model_copy(update={"holdout_share": 0.999999})
    assert desk.engine.propose(held, Surroundings({})) is None
    desk.clock.on(minutes=5)
    desk.alert("db2", level="P1", open_=True)
    for alert in (treated.alert_id, held):
        desk.alerts.resolve(alert, "ann", desk.clock.now())
    with desk.store.session() as session:
        assert settle(session) == 2
        found = estimate(session, "database")
        assert found is not None
        assert (found.treated, found.treated_incidents, found.control, found.control_incidents) == (1, 0, 1, 1)
        note_trial(session, NOW, "database", "control", 99, 60, "trial")
        note_trial(session, NOW, "database", "treated", 99, 6, "trial")
        assert estimate(session, "web_api") is None
    desk.settings = desk.settings.model_copy(update={"holdout_share": 0.0})
    plan = desk.proposed("db3")
    assert "estimate: prevents 9" in plan.expected_effect or "estimate: prevents 8" in plan.expected_effect
    assert "from 100 cases acted on and 100 left alone" in plan.expected_effect


def test_the_estimate_knows_how_little_it_knows() -> None:
    few, many = estimate_share((4, 1), (4, 2)), estimate_share((400, 100), (400, 200))
    assert few is not None
    assert many is not None
    assert few.high - few.low > 3 * (many.high - many.low)
    assert many.low < 0.5 < many.high
    assert "less than -100%" in in_words(estimate_share((4, 2), (4, 1)))
    for nothing in (((0, 0), (5, 5)), ((5, 0), (0, 0)), ((5, 0), (5, 0))):
        assert estimate_share(*nothing) is None
    assert in_words(None) == "its effect has not been measured yet"


def test_a_lease_that_nobody_holds_is_taken_at_once_and_one_that_is_held_is_not(desk: Desk) -> None:
    lease = claim(desk.store, 7, 0.01)
    with Heart(desk.store, lease, 0.1), pytest.raises(ConflictError, match="is being carried out"):
        claim(desk.store, 7, 0.1)
    again = claim(desk.store, 7, 30.0)
    assert again.fence == lease.fence + 1
