"""The demo feed outlasts a service that is away, and gives up on one that refuses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from fleetcast.errors import AuthenticationError, PermissionDeniedError, ServiceError
from fleetcast.simulate.live import LiveFleet
from fleetcast.simulate.spec import FleetSpec
from serve_app import feed
from serve_app.feed import Feed, FeedClient, Orphaned
from tests.desk import Hands


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "FIRST_PAUSE_S", 0.001)


def client(answers: Iterator[httpx.Response | Exception], parent: int | None = None) -> tuple[FeedClient, list[str]]:
    said: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer fc_key"
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    return FeedClient(http, "fc_key", parent, said.append), said


def test_it_tries_again_until_the_service_is_back_and_says_so() -> None:
    answers = [httpx.ConnectError("refused"), httpx.Response(503), httpx.Response(200, json={"accepted": 1})]
    found, said = client(iter(answers))
    assert found.call("POST", "/v1/samples", {"samples": []}) == {"accepted": 1}
    assert len(said) == 2


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError), (422, ServiceError)]
)
def test_a_refusal_is_not_tried_again(status: int, kind: type[Exception]) -> None:
    found, _ = client(iter([httpx.Response(status, text="why not")]))
    with pytest.raises(kind, match="why not"):
        found.call("GET", "/v1/demo")


def test_it_ends_when_the_process_that_started_it_is_gone() -> None:
    found, _ = client(iter([]), parent=1 << 30)
    with pytest.raises(Orphaned):
        found.call("GET", "/v1/demo")


def test_what_remediation_did_to_the_fleet_changes_what_the_feed_posts() -> None:
    spec = FleetSpec(servers=2, hours=6, seed=5, incidents_per_day=0)
    live, server = LiveFleet(spec), LiveFleet(spec).servers[1]
    clock = Hands(live.end + timedelta(minutes=12))
    action = {"id": 4, "at": live.end.isoformat(), "server": server, "action": "throttle", "value": 0.1}
    unknown = {**action, "id": 5, "server": "nowhere"}
    posted: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/remediation/simulated":
            items = [action, unknown] if posted and request.url.params["after"] == "0" else []
            return httpx.Response(200, json={"items": items})
        if request.url.path == "/v1/demo":
            return httpx.Response(200, json={"enabled": False, "scenario": None, "since": None, "servers": None})
        if request.url.path == "/v1/samples":
            posted.extend(json.loads(request.content)["samples"])
        return httpx.Response(200, json={"quarantined": []})

    said: list[str] = []
    http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(answer))
    found = Feed(live, spec.start, FeedClient(http, "fc_key", None, said.append), clock, said.append)
    found.backfill(1)
    clock.on(minutes=30)
    found.step()
    untouched = LiveFleet(spec).rows(live.end, clock.now()).to_pylist()
    calm = {(row["server"], row["timestamp"]): row["network_receive_bytes"] for row in untouched}
    later = [row for row in posted if row["server"] == server][-3:]
    for row in later:
        assert row["network_receive_bytes"] < 0.2 * calm[server, datetime.fromisoformat(row["timestamp"])]
    assert [line for line in said if "nowhere" in line]
    assert any(line == f"feed: throttle of {server}" for line in said)
