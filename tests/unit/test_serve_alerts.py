"""Alerts over the API and on the dashboard's tab, as people with scopes use them; without Ray between the parts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.routing import Routing
from fleetcast.clock import RealClock
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from fleetcast.store.leases import take_lease
from serve_app.alerts import Alerts
from serve_app.arguments import AppArgs
from serve_app.auth import KeyRing
from serve_app.dashboard import alerting as tab
from serve_app.dashboard.client import FleetApi
from serve_app.ingress import make_app
from serve_app.services import Services
from tests.loopback import Loopback, loopback
from tests.unit.test_alerting import risk


class Here:
    """A handle to a deployment that runs in this process; made at the first call, in the running event loop."""

    def __init__(self, args: AppArgs) -> None:
        self._args, self._made = args, None

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self._made = self._made or Alerts(self._args, {})
            return await getattr(self._made, name)(*arguments)

        return SimpleNamespace(remote=call)


class Clients:
    def __init__(self, http: TestClient, keys: dict[str, str]) -> None:
        self.http, self.keys = http, keys

    def call(self, method: str, path: str, scope: str = "operate", **named: Any) -> Any:
        return self.http.request(method, path, headers={"Authorization": f"Bearer {self.keys[scope]}"}, **named)


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    database = f"sqlite:///{tmp_path_factory.mktemp('serve') / 'x.db'}"
    store = open_store(database)
    args = AppArgs(bundle="", database=database, alerts=AlertSettings(open_after_cycles=1))
    with store.session() as session:
        keys = {name: create_key(session, name, [name], datetime.now(UTC)) for name in ("read", "operate", "write")}
        keys["both"] = create_key(session, "both", ["read", "operate"], datetime.now(UTC))
    engine = AlertEngine(store, args.alerts, Routing.default())
    engine.observe([risk("P1", "web1"), risk("P2", "web<2>")], datetime.now(UTC))
    services = Services(args, STEPS_PER_DAY, RealClock(), store, KeyRing(store), None, None, None, Here(args), None)  # type: ignore[arg-type]
    with TestClient(make_app(services)) as http:
        yield Clients(http, keys)


def test_alerts_are_listed_and_shown(clients: Clients) -> None:
    found = clients.call("GET", "/v1/alerts", "read").json()
    assert (found["shadow"], [item["server"] for item in found["items"]]) == (True, ["web<2>", "web1"])
    one = clients.call("GET", f"/v1/alerts/{found['items'][1]['id']}", "read")
    assert one.json() == found["items"][1]
    assert clients.call("GET", "/v1/alerts/999", "read").status_code == 404


def test_a_silence_needs_an_end_and_is_ended(clients: Clients) -> None:
    for wrong in (
        {},
        {"hours": 1, "ends_at": "2030-01-01T00:00:00Z"},
        {"hours": 0},
        {"ends_at": "2030-01-01T00:00:00"},
    ):
        answer = clients.call("POST", "/v1/silences", json={"matchers": ["server=web1"], **wrong})
        assert answer.status_code == 422, wrong
    for wrong in ({"matchers": []}, {"matchers": ["web1"]}, {"matchers": ["server=web1"], "hours": 24 * 300}):
        assert clients.call("POST", "/v1/silences", json={"hours": 1, **wrong}).status_code == 422, wrong
    made = clients.call("POST", "/v1/silences", json={"matchers": ["server=web1"], "hours": 1, "comment": "disk"})
    assert (made.json()["created_by"], made.json()["matchers"]) == ("operate", ['server="web1"'])
    number = made.json()["id"]
    assert [one["id"] for one in clients.call("GET", "/v1/silences", "read").json()["items"]] == [number]
    assert clients.call("POST", f"/v1/silences/{number}/end").json()["ended_by"] == "operate"
    assert clients.call("GET", "/v1/silences", "read").json()["items"] == []
    ended = clients.call("GET", "/v1/silences?ended=true", "read").json()["items"]
    assert [one["id"] for one in ended] == [number]
    assert clients.call("POST", f"/v1/silences/{number}/end").status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "body", "scope"),
    [
        ("GET", "/v1/alerts", None, "read"),
        ("GET", "/v1/alerts/1", None, "read"),
        ("GET", "/v1/silences", None, "read"),
        ("POST", "/v1/alerts/999/acknowledge", None, "operate"),
        ("POST", "/v1/alerts/999/resolve", None, "operate"),
        ("POST", "/v1/silences", {"matchers": ["server=x"], "hours": 0.01}, "operate"),
        ("POST", "/v1/silences/999/end", None, "operate"),
    ],
)
def test_a_key_without_the_scope_is_refused(clients: Clients, method: str, path: str, body: Any, scope: str) -> None:
    for name in ("read", "operate", "write"):
        assert (clients.call(method, path, name, json=body).status_code == 403) == (name != scope)


def test_the_tab_acknowledges_silences_and_escapes(clients: Clients) -> None:
    api = FleetApi(clients.http, clients.keys["both"])
    listed, detail, _, matrix = tab.show(api, "all", None)
    assert "web&lt;2&gt;" in listed
    assert "web<2>" not in listed + detail
    assert "shadow mode" in matrix
    number = next(one.id for one in api.alerts().items if one.server == "web<2>")
    assert "acknowledged" in tab.press(api, "acknowledge", str(number))
    assert api.alert(str(number)).acknowledged_by == "both"
    tab.press(api, "silence", str(number))
    quiet = next(one for one in api.silences().items if "web<2>" in one.matchers[0])
    assert quiet.matchers == ['server="web<2>"', 'metric="memory_used"']
    assert "web&lt;2&gt;" in tab.show(api, "all", number)[2]
    tab.press(api, "unsilence", str(quiet.id))
    assert "resolved" in tab.press(api, "resolve", str(number))


def test_the_dashboard_of_a_reader_is_refused_what_the_key_may_not(clients: Clients) -> None:
    from fleetcast.errors import PermissionDeniedError

    with pytest.raises(PermissionDeniedError, match="operate"):
        tab.press(FleetApi(clients.http, clients.keys["read"]), "silence", "1")


def test_the_service_has_the_routes_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "routing.yaml").write_text(
        "receivers: {log: {channel: log, to: log}}\nroute: {name: all, receivers: [log], shadow: false}\n"
    )
    args = AppArgs(bundle="", database="", alerts=AlertSettings(routing=tmp_path / "routing.yaml"))
    services = Services(args, STEPS_PER_DAY, RealClock(), *[None] * 7)  # type: ignore[arg-type]
    assert services.shadow is False


def test_the_service_delivers_what_a_cycle_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cycle(args: AppArgs, receiver: Loopback) -> None:
        store = open_store(args.database)
        with store.session() as session:
            lease = take_lease(session, "watcher", "here", None)
        assert lease is not None
        alerts = Alerts(args, {"web2": ["web1"]})
        found = await alerts.observe([risk("P1", "web1"), risk("P1", "web2")], datetime.now(UTC), frozenset(), lease)
        assert [(one.server, one.parts) for one in found] == [("web1", 1)]
        await asyncio.wait_for(received(receiver, 1), 30)
        await alerts.acknowledge(found[0].id, "ann")
        await asyncio.wait_for(received(receiver, 2), 30)
        await alerts.check_health()

    async def received(receiver: Loopback, count: int) -> None:
        while len(receiver.requests) < count:
            await asyncio.sleep(0.01)

    monkeypatch.setenv("SECRET", "s3cret")
    with loopback() as receiver:
        (tmp_path / "routing.yaml").write_text(
            f"receivers:\n  hook: {{channel: webhook, to: x, address: '{receiver.url}', secret: {{env: SECRET}}}}\n"
            "route: {name: all, receivers: [hook], shadow: false}\n"
        )
        settings = AlertSettings(open_after_cycles=1, routing=tmp_path / "routing.yaml", allow_private=["127.0.0.0/8"])
        args = AppArgs(bundle="", database=f"sqlite:///{tmp_path}/x.db", alerts=settings)
        asyncio.run(cycle(args, receiver))
        assert [request.json["action"] for request in receiver.requests] == ["trigger", "acknowledge"]
        assert len({request.json["incident"] for request in receiver.requests}) == 1
