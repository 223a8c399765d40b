"""Remediation, cost and the audit trail by command, with the rules of the service and the caller's own key."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.remediation.fleet import Surroundings
from fleetcast.store.keys import create_key
from tests.desk import NOW, Desk, new_store
from tests.unit.test_cli import run


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with new_store() as store:
        monkeypatch.setenv("FLEETCAST_DATABASE_URL", str(store.engine.url))
        monkeypatch.delenv("FLEETCAST_API_KEY", raising=False)
        desk = Desk(store)
        desk.clock.time = datetime.now(UTC)
        yield desk


def become(desk: Desk, monkeypatch: pytest.MonkeyPatch, name: str, *scopes: str) -> None:
    with desk.store.session() as session:
        monkeypatch.setenv("FLEETCAST_API_KEY", create_key(session, name, scopes, NOW))


def test_a_plan_is_listed_shown_approved_and_executed_by_whoever_has_the_scope(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = desk.proposed()
    assert "proposed" in run(capsys, "remediate", "list")[1]
    shown = json.loads(run(capsys, "remediate", "show", str(plan.id), "--json")[1])
    assert (shown["hash"], shown["status"]) == (plan.hash, "proposed")

    approve = ("remediate", "approve", str(plan.id), "--hash", plan.hash)
    code, _, said = run(capsys, *approve)
    assert (code, "FLEETCAST_API_KEY" in said) == (1, True)
    become(desk, monkeypatch, "olga", "operate")
    code, _, said = run(capsys, *approve)
    assert (code, "'approve'" in said) == (1, True)
    become(desk, monkeypatch, "ann", "approve")
    assert run(capsys, *approve)[0] == 0
    assert run(capsys, "remediate", "execute", str(plan.id))[0] == 1
    monkeypatch.delenv("FLEETCAST_API_KEY")
    become(desk, monkeypatch, "bob", "operate")
    done = json.loads(run(capsys, "remediate", "execute", str(plan.id), "--json")[1])
    assert (done["status"], done["approved_by"], done["executed_by"]) == ("executed", "ann", "bob")
    assert run(capsys, "remediate", "list", "--status", "nonsense")[0] == 2


def test_who_asked_for_a_plan_rejects_it_but_does_not_approve_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = desk.engine.propose(desk.alert(), Surroundings({}), "ann")
    assert plan is not None
    become(desk, monkeypatch, "ann", "approve")
    code, _, said = run(capsys, "remediate", "approve", str(plan.id), "--hash", plan.hash)
    assert (code, "somebody else" in said) == (1, True)
    assert run(capsys, "remediate", "reject", str(plan.id))[0] == 0
    become(desk, monkeypatch, "bob", "operate")
    assert run(capsys, "remediate", "rollback", str(plan.id))[0] == 1


def test_all_is_stopped_and_released(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = desk.approved()
    become(desk, monkeypatch, "bob", "operate")
    assert run(capsys, "remediate", "stop", "--reason", "a test")[0] == 0
    code, _, said = run(capsys, "remediate", "execute", str(plan.id))
    assert (code, "stopped by bob: a test" in said) == (1, True)
    status = json.loads(run(capsys, "remediate", "status", "--json")[1])
    assert (status["stopped"], status["limits"]["mode"]) == (True, "dry_run")
    assert run(capsys, "remediate", "release")[0] == 1
    become(desk, monkeypatch, "ann", "approve")
    assert run(capsys, "remediate", "release")[0] == 0
    assert not json.loads(run(capsys, "remediate", "status", "--json")[1])["stopped"]


def test_playbooks_are_checked_by_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert len(json.loads(run(capsys, "remediate", "playbooks", "--json")[1])) == 7
    (tmp_path / "x.yaml").write_text("profile: web_api\n")
    code, _, said = run(capsys, "remediate", "playbooks", str(tmp_path))
    assert (code, "x.yaml, line 1, column 1: title: Field required" in said) == (2, True)


def test_assumptions_are_changed_with_the_name_of_who_did(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ("cost", "assume", "incident_hours=3.5", "database.downtime_usd_per_hour=90000", "--json")
    assert run(capsys, *change)[0] == 1
    become(desk, monkeypatch, "ann", "operate")
    assert json.loads(run(capsys, *change)[1])["incident_hours"] == 3.5
    report = json.loads(run(capsys, "cost", "report", "--json")[1])["assumptions"]
    assert (report["author"], report["values"]["profiles"]["database"]["downtime_usd_per_hour"]) == ("ann", 90000.0)
    history = json.loads(run(capsys, "cost", "assumptions", "--json")[1])
    assert [one["author"] for one in history] == ["ann", "settings"]
    for wrong in ("incident_hours", "nothing=1", "prevented_share=2", "database.project_usd=1", "profiles=1"):
        assert run(capsys, "cost", "assume", wrong)[0] == 2


def test_the_audit_trail_is_listed_and_verified(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.approved()
    entries = json.loads(run(capsys, "audit", "list", "--json")[1])
    assert [one["actor"] for one in entries] == ["ann", "policy"]
    sound = json.loads(run(capsys, "audit", "verify", "--json")[1])
    assert (sound["sound"], sound["entries"]) == (True, 2)
    assert run(capsys, "audit", "verify", "--anchor", sound["anchor"])[0] == 0
    assert run(capsys, "audit", "verify", "--anchor", "nonsense")[0] == 2
    with sqlite3.connect(str(desk.store.engine.url.database)) as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET actor = 'mallory' WHERE id = 1")
    code, _, said = run(capsys, "audit", "verify")
    assert (code, "entry 1 of the audit trail was changed" in said) == (1, True)
