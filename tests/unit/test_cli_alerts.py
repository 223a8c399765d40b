"""Alerts from the command line: list, show, acknowledge, resolve, silence; who would be told; a test of a route."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.routing import Routing
from fleetcast.operate.home import make_home
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from tests.loopback import Answer, loopback
from tests.unit.test_alerting import risk
from tests.unit.test_cli import run

Capture = pytest.CaptureFixture[str]
ROUTING = """
receivers:
  hook: {{channel: webhook, to: team, address: '{url}/in', secret: {{env: HOOK_SECRET}}}}
  phone: {{channel: phone, to: boss}}
route:
  name: all
  receivers: [hook]
  routes:
    - {{name: shop, matchers: [team=shop, level=P1], receivers: [hook], shadow: false}}
    - {{name: boss, matchers: [level=P1], receivers: [hook], escalation: [{{after_s: 600, to: phone}}]}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FLEETCAST_DATABASE_URL", raising=False)
    home = make_home(tmp_path / "home")
    monkeypatch.setenv("FLEETCAST_HOME", str(home))
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    monkeypatch.setenv("FLEETCAST_ALERTS__ALLOW_PRIVATE", '["127.0.0.0/8"]')
    engine = AlertEngine(
        open_store(f"sqlite:///{home}/fleetcast.db"), AlertSettings(open_after_cycles=1), Routing.default()
    )
    engine.observe([risk("P1"), risk("P2", "web2")], datetime.now(UTC))
    with engine.store.session() as session:
        monkeypatch.setenv("FLEETCAST_API_KEY", create_key(session, "ann", ["operate"], datetime.now(UTC)))
    return home


def configured(home: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    (home / "routing.yaml").write_text(ROUTING.format(url=url))
    (home / "fleet.yaml").write_text("servers: [{match: 'shop.*', labels: {team: shop}}]")
    monkeypatch.setenv("FLEETCAST_ALERTS__ROUTING", str(home / "routing.yaml"))
    monkeypatch.setenv("FLEETCAST_ALERTS__FLEET", str(home / "fleet.yaml"))


def test_alerts_are_listed_shown_acknowledged_and_resolved(home: Path, capsys: Capture) -> None:
    listed = json.loads(run(capsys, "alerts", "list", "--json")[1])
    assert [(one["id"], one["level"], one["state"]) for one in listed] == [(2, "P2", "open"), (1, "P1", "open")]
    assert "web2" in run(capsys, "alerts", "list")[1]
    shown = run(capsys, "alerts", "show", "1")[1]
    assert "would have sent  PagerDuty: on-call" in shown
    assert "after 15 min  PagerDuty: senior engineer  due" in shown
    found = json.loads(run(capsys, "alerts", "acknowledge", "1", "--json")[1])
    assert (found["state"], found["acknowledged_by"]) == ("acknowledged", "ann")
    assert [one["id"] for one in json.loads(run(capsys, "alerts", "list", "--state", "open", "--json")[1])] == [2]
    assert json.loads(run(capsys, "alerts", "resolve", "1", "--json")[1])["state"] == "resolved"
    code, _, said = run(capsys, "alerts", "acknowledge", "1")
    assert (code, "is resolved, cannot become acknowledged" in said) == (1, True)
    assert run(capsys, "alerts", "show", "99")[0] == 1
    assert run(capsys, "alerts", "list", "--state", "closed")[0] == 2


@pytest.mark.parametrize("key", ["", "read"])
def test_who_acts_needs_a_key_that_may(home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    if key:
        store = open_store(f"sqlite:///{home}/fleetcast.db")
        with store.session() as session:
            key = create_key(session, "reader", ["read"], datetime.now(UTC))
    monkeypatch.setenv("FLEETCAST_API_KEY", key)
    for words in (["acknowledge", "1"], ["resolve", "1"], ["silence", "team=shop", "--for", "2h"], ["test", "default"]):
        assert run(capsys, "alerts", *words)[0] == 1
    listed = json.loads(run(capsys, "alerts", "list", "--json")[1])
    assert {one["state"] for one in listed} == {"open"}
    assert json.loads(run(capsys, "alerts", "silences", "--json")[1]) == []


def test_a_silence_is_made_listed_and_ended(home: Path, capsys: Capture) -> None:
    arguments = ("alerts", "silence", "team=shop", 'server=~"web.*"', "--for", "2h", "--json")
    (made,) = json.loads(run(capsys, *arguments)[1])
    assert (made["matchers"], made["created_by"]) == (['team="shop"', 'server=~"web.*"'], "ann")
    assert f'{made["id"]}: team="shop"' in run(capsys, "alerts", "silences")[1]
    assert run(capsys, "alerts", "unsilence", str(made["id"]))[0] == 0
    assert json.loads(run(capsys, "alerts", "silences", "--json")[1]) == []
    assert run(capsys, "alerts", "silence", "team", "--for", "2h")[0] == 2
    assert run(capsys, "alerts", "silence", "team=shop", "--for", "900d")[0] == 2


def test_the_way_of_an_alert_is_explained(home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(home, monkeypatch, "https://hooks.example.org")
    _, out, _ = run(capsys, "alerts", "route", "--explain", "level=P1", "server=shop1")
    assert out.splitlines() == [
        "+ all (line 5): takes all",
        '  + shop (line 9): team="shop", level="P1"',
        "shop: tells webhook: team",
    ]
    _, out, _ = run(capsys, "alerts", "route", "level=P1")
    assert out.splitlines() == [
        "boss: would tell webhook: team",
        "  after 10 min without an acknowledgement: phone: boss",
    ]
    found = json.loads(run(capsys, "alerts", "route", "level=P3", "--explain", "--json")[1])
    assert [(one["route"], one["fits"]) for one in found["looked_at"]] == [
        ("all", True),
        ("shop", False),
        ("boss", False),
    ]
    assert run(capsys, "alerts", "route", "P1")[0] == 2
    (home / "routing.yaml").write_text("receivers: {}\nroute: {name: all, receivers: [nobody]}\n")
    code, _, said = run(capsys, "alerts", "route", "level=P1")
    assert (code, "routing.yaml, line 2" in said) == (2, True)


def test_a_test_of_a_route_goes_the_way_of_a_real_message(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback() as receiver:
        configured(home, monkeypatch, receiver.url)
        receiver.script.append(Answer(500))
        code, out, said = run(capsys, "alerts", "test", "shop")
        assert (code, out.strip()) == (0, "webhook: team: sent"), said
        assert len(receiver.requests) == 2
        assert len({request.headers["idempotency-key"] for request in receiver.requests}) == 1
        assert receiver.requests[1].json["action"] == "test"
        receiver.script.append(Answer(404, {}, b"no such hook"))
        code, out, _ = run(capsys, "alerts", "test", "shop")
        assert (code, "failed (the webhook answered 404: no such hook)" in out) == (1, True)


def test_a_test_in_shadow_mode_sends_nothing_unless_told(
    home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback() as receiver:
        configured(home, monkeypatch, receiver.url)
        code, out, _ = run(capsys, "alerts", "test", "all")
        assert (code, out.strip(), receiver.requests) == (0, "webhook: team: would have sent", [])
        assert run(capsys, "alerts", "test", "all", "--send")[0] == 0
        assert len(receiver.requests) == 1
        code, _, said = run(capsys, "alerts", "test", "boss", "--send")
        assert (code, "'phone': it lacks" in said) == (2, True)
        assert run(capsys, "alerts", "test", "nowhere")[0] == 1
