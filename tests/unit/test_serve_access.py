"""Keys come in one header, are checked against the database, and stop working when they are revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection

from fleetcast.errors import AuthenticationError
from fleetcast.store.engine import Store, open_store
from fleetcast.store.keys import create_key, revoke
from serve_app.auth import KeyRing, bearer_key
from serve_app.limits import BodyLimit
from serve_app.refusals import add_handlers

NOW = datetime(2026, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(f"sqlite:///{tmp_path / 'keys.db'}")
    yield found
    found.close()


def connection(*headers: tuple[str, str]) -> HTTPConnection:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": raw, "path": "/", "query_string": b"key=fc_x"})


def test_a_key_gives_its_holder_and_scopes(store: Store) -> None:
    with store.session() as session:
        key = create_key(session, "ops", ["read", "operate"], NOW)
    found = asyncio.run(KeyRing(store).principal(key))
    assert (found.name, found.scopes) == ("ops", {"read", "operate"})


def test_a_revoked_key_is_refused_once_its_short_memory_is_over(store: Store) -> None:
    with store.session() as session:
        key = create_key(session, "ops", ["read"], NOW)
    ring = KeyRing(store, cache_s=0.0)
    asyncio.run(ring.principal(key))
    with store.session() as session:
        revoke(session, "ops", NOW)
    with pytest.raises(AuthenticationError, match="not in force"):
        asyncio.run(ring.principal(key))


@pytest.mark.parametrize("key", ["", "fc_", "fc_" + "A" * 43, "x" * 10_000, "fc_\udce4" + "A" * 42])
def test_any_other_text_is_refused(store: Store, key: str) -> None:
    with pytest.raises(AuthenticationError):
        asyncio.run(KeyRing(store).principal(key))


@pytest.mark.parametrize("headers", [(), (("authorization", "Basic abc"),), (("authorization", "Bearer "),)])
def test_only_a_bearer_header_carries_a_key(headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(AuthenticationError, match="Authorization: Bearer"):
        bearer_key(connection(*headers, ("cookie", "key=fc_x"), ("x-api-key", "fc_x")))
    assert bearer_key(connection(("authorization", "bearer fc_abc"))) == "fc_abc"


@pytest.fixture
def limited() -> TestClient:
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("a secret of the inside")

    add_handlers(app)
    app.add_middleware(BodyLimit, most=100)
    return TestClient(app, raise_server_exceptions=False)


def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_so(limited: TestClient) -> None:
    assert limited.post("/echo", content=b"x" * 100).json() == 100
    declared = limited.post("/echo", content=b"x" * 101)
    streamed = limited.post("/echo", content=iter([b"x" * 60, b"x" * 60]))
    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert "100 bytes" in answer.json()["detail"]


def test_an_unforeseen_error_answers_json_without_its_text(limited: TestClient) -> None:
    answer = limited.get("/broken")
    assert answer.status_code == 500
    assert answer.json()["error"] == "internal"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
