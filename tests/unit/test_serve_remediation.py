"""The routes of remediation, cost and the audit trail over the deployment itself, without Ray: who may do what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleetcast.clock import ClockSpec
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.remediation.effects import note_trial
from fleetcast.remediation.views import PlanView
from fleetcast.settings import RemediationSettings
from fleetcast.store.keys import create_key
from serve_app.arguments import AppArgs
from serve_app.auth import KeyRing
from serve_app.dashboard import remediation as tab
from serve_app.dashboard.client import FleetApi
from serve_app.ingress import make_app
from serve_app.remediation import Remediation
from serve_app.services import Services
from tests.desk import FLEET, NOW, Desk, new_store
from tests.waiting import wait_for

SCOPES = ("read", "operate", "approve", "admin")


class Here:
    """A handle of a deployment in this process: `here.name.remote(...)` is the method itself."""

    def __init__(self, made: Any) -> None:
        self._make, self._made = made, None

    def __getattr__(self, name: str) -> Any:
        class Method:
            @staticmethod
            async def remote(*arguments: Any) -> Any:
                self._made = self._made or self._make()  # within the loop of the application
                return await getattr(self._made, name)(*arguments)

        return Method


class Service:
    """The application, its database, and a client for each scope."""

    def __init__(self, desk: Desk, settings: RemediationSettings) -> None:
        store, self.desk = desk.store, desk
        clock = ClockSpec(origin=NOW, anchor=4e9, speed=1e-9)  # stands still
        args = AppArgs(bundle="", database=str(store.engine.url), remediation=settings, clock=clock)
        desk.clock.time = clock.build().now()
        self.handle = Here(lambda: Remediation(args, [("db1", "db2")]))
        nobody: list[Any] = [None] * 4
        self.app = make_app(Services(args, STEPS_PER_DAY, clock.build(), store, KeyRing(store), *nobody, self.handle))
        with store.session() as session:
            self.keys = {name: create_key(session, name, [name], NOW) for name in SCOPES}
        self.client = TestClient(self.app)

    def see_fleet(self) -> None:
        """A cycle without alerts. The client must be entered."""
        assert self.client.portal is not None
        self.client.portal.call(self.handle.propose.remote, (), FLEET)

    def call(self, who: str, method: str, path: str, body: Any = None) -> Any:
        return self.client.request(method, path, json=body, headers={"Authorization": f"Bearer {self.keys[who]}"})


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with new_store() as store:
        found = Service(Desk(store), RemediationSettings())
        with found.client:
            yield found


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "/v1/remediation", None, "read"),
        ("GET", "/v1/remediation/plans", None, "read"),
        ("GET", "/v1/remediation/plans/999", None, "read"),
        ("GET", "/v1/remediation/simulated", None, "read"),
        ("GET", "/v1/remediation/effects", None, "read"),
        ("POST", "/v1/remediation/plans", {"alert_id": 999}, "operate"),
        ("POST", "/v1/remediation/plans/999/approve", {"hash": "x"}, "approve"),
        ("POST", "/v1/remediation/plans/999/reject", None, "approve"),
        ("POST", "/v1/remediation/plans/999/execute", None, "operate"),
        ("POST", "/v1/remediation/plans/999/rollback", None, "operate"),
        ("POST", "/v1/remediation/stop", {"reason": "x"}, "operate"),
        ("POST", "/v1/remediation/release", None, "approve"),
        ("GET", "/v1/cost", None, "read"),
        ("GET", "/v1/cost/assumptions", None, "read"),
        ("GET", "/v1/audit", None, "admin"),
        ("GET", "/v1/audit/verify", None, "admin"),
    ],
)
def test_every_route_asks_for_its_scope(service: Service, method: str, path: str, body: Any, scope: str) -> None:
    for who in SCOPES:
        answer = service.call(who, method, path, body)
        assert (answer.status_code == 403) == (who not in (scope, "admin")), (who, answer.text)
    service.call("admin", "POST", "/v1/remediation/release")


def test_a_plan_goes_from_proposal_to_dry_run_over_the_api(service: Service) -> None:
    alert = service.desk.alert()
    early = service.call("operate", "POST", "/v1/remediation/plans", {"alert_id": alert})
    assert (early.status_code, "first cycle" in early.text) == (409, True)
    service.see_fleet()
    asked = service.call("operate", "POST", "/v1/remediation/plans", {"alert_id": alert}).json()
    assert (asked["status"], asked["requested_by"]) == ("proposed", "operate")
    path = f"/v1/remediation/plans/{asked['id']}"
    assert service.call("operate", "POST", f"{path}/execute").status_code == 409
    assert service.call("approve", "POST", f"{path}/approve", {"hash": "0" * 64}).status_code == 409
    approved = service.call("approve", "POST", f"{path}/approve", {"hash": asked["hash"]})
    assert (approved.status_code, approved.json()["approved_by"]) == (200, "approve")
    service.call("operate", "POST", "/v1/remediation/stop", {"reason": "a test"})
    refused = service.call("operate", "POST", f"{path}/execute")
    assert (refused.status_code, refused.json()["detail"]) == (409, "remediation is stopped by operate: a test")
    assert service.call("read", "GET", "/v1/remediation").json()["control"]["stopped"]
    service.call("approve", "POST", "/v1/remediation/release")
    done = service.call("operate", "POST", f"{path}/execute").json()
    assert (done["status"], done["executed_by"]) == ("executed", "operate")
    assert all(step["wording"].startswith("would have") for step in done["steps"])
    assert service.call("read", "GET", path).json() == done
    page = service.call("admin", "GET", "/v1/audit?limit=3").json()["items"]
    assert [one["action"] for one in page] == ["execute plan (dry run)", "release remediation", "stop remediation"]
    further = service.call("admin", "GET", f"/v1/audit?limit=2&before={page[-1]['id']}").json()["items"]
    assert [one["action"] for one in further] == ["approve plan as engineer", "propose plan"]
    sound = service.call("admin", "GET", "/v1/audit/verify").json()
    anchor = f"{sound['last']}:{sound['hash']}"
    assert service.call("admin", "GET", f"/v1/audit/verify?anchor={anchor}").status_code == 200
    wrong = service.call("admin", "GET", f"/v1/audit/verify?anchor={sound['last']}:{'0' * 64}")
    assert (wrong.status_code, "written anew" in wrong.json()["detail"]) == (409, True)


def test_the_tab_of_the_dashboard_shows_plans_and_its_buttons_act(service: Service) -> None:
    approver = FleetApi(service.client, service.keys["admin"])  # type: ignore[arg-type]  # a TestClient is a Client
    plan = service.desk.proposed("db3")
    (shown,) = tab.show(approver)
    assert plan.title in shown
    assert "25 % of the profile" in shown
    assert f'data-value="{plan.id}:{plan.hash}"' in shown
    assert tab.press(approver, "approve", f"{plan.id}:{plan.hash}") == (
        f"Plan {plan.id} is approved (dry run: its steps say what would have been done)."
    )
    assert "is executed" in tab.press(approver, "execute", str(plan.id))
    other = service.desk.proposed("db4")
    assert "is rejected" in tab.press(approver, "reject", str(other.id))
    assert "no action starts" in tab.press(approver, "stop", "all")
    assert "Stopped by admin" in tab.show(approver)[0]
    assert "start again" in tab.press(approver, "release", "all")


def test_measured_effects_are_shown_as_estimates(service: Service) -> None:
    with service.desk.store.session() as session:
        for arm, incidents in (("treated", 5), ("control", 50)):
            note_trial(session, NOW, "database", arm, 100, incidents, "a trial")  # type: ignore[arg-type]
        note_trial(session, NOW, "web_api", "treated", 9, 1, "without a control arm")
    found = service.call("read", "GET", "/v1/remediation/effects").json()["playbooks"]
    assert list(found) == ["database"]
    assert 0.8 < found["database"]["low"] < found["database"]["prevented"] < found["database"]["high"] < 0.97
    api = FleetApi(service.client, service.keys["read"])  # type: ignore[arg-type]
    assert "5 of 100" in tab.show(api)[0]


def test_open_alerts_get_their_plans_and_the_policy_s_are_carried_out(service: Service) -> None:
    service.desk.alert("web1")
    alerts = [one for one in service.desk.alerts.list_alerts("open") if one.server == "web1"]

    async def propose() -> int:
        found: int = await service.handle.propose.remote(alerts, FLEET)
        return found

    assert service.client.portal is not None
    assert service.client.portal.call(propose) == 1

    def executed() -> PlanView | None:
        done = service.desk.engine.list_plans("executed")
        return next((one for one in done if one.server == "web1"), None)

    plan = wait_for(executed, "the plan to be carried out", 20)
    assert (plan.executed_by, plan.automatic) == ("policy", True)
    assert plan.blast_radius.share_of_cell == 1.0


def test_assumptions_keep_their_authors_over_the_api(service: Service) -> None:
    values = service.call("read", "GET", "/v1/cost").json()["assumptions"]["values"]
    changed = {**values, "profiles": {"web_api": {"incident_hours": 4.0}}}
    assert service.call("operate", "PUT", "/v1/cost/assumptions", changed).status_code == 200
    found = service.call("read", "GET", "/v1/cost/assumptions").json()["items"]
    assert [one["author"] for one in found] == ["operate", "settings"]
    assert found[0]["values"]["profiles"]["web_api"]["incident_hours"] == 4.0


def test_on_a_simulated_fleet_the_feed_is_told_what_was_done_once() -> None:
    with new_store() as store:
        found = Service(Desk(store), RemediationSettings(mode="simulated", holdout_share=0.0))
        with found.client:
            alert = found.desk.alert("db2")
            found.see_fleet()
            asked = found.call("operate", "POST", "/v1/remediation/plans", {"alert_id": alert}).json()
            path = f"/v1/remediation/plans/{asked['id']}"
            found.call("approve", "POST", f"{path}/approve", {"hash": asked["hash"]})
            for _ in range(2):
                done = found.call("operate", "POST", f"{path}/execute").json()
            assert (done["status"], done["dry_run"]) == ("verifying", False)
            items = found.call("read", "GET", "/v1/remediation/simulated").json()["items"]
            assert [(one["server"], one["action"], one["value"]) for one in items] == [
                ("db2", "throttle", 0.7),
                ("db2", "drain", 0.7),
            ]
            later = found.call("read", "GET", f"/v1/remediation/simulated?after={items[0]['id']}").json()["items"]
            assert later == items[1:]
            back = found.call("operate", "POST", f"{path}/rollback").json()
            assert back["status"] == "rolled_back"
            items = found.call("read", "GET", "/v1/remediation/simulated").json()["items"]
            assert [(one["action"], one["value"]) for one in items[2:]] == [("drain", 1.0), ("throttle", 1.0)]
