"""The demo feed outlasts a service that is away, and gives up on one that refuses it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from fleetcast.errors import AuthenticationError, PermissionDeniedError, ServiceError
from serve_app import feed
from serve_app.feed import FeedClient, Orphaned


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
