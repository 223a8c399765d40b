"""A key that asks too often is told so, and others are not held up by it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from serve_app.auth import KeyRing, needs
from serve_app.rates import BURST_S, Rates, TooManyRequestsError
from serve_app.refusals import add_handlers


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, name: str, attempts: int) -> int:
    """How many of so many requests at once are let through."""
    passed = 0
    for _ in range(attempts):
        try:
            rates.take(name)
        except TooManyRequestsError:
            continue
        passed += 1
    return passed


def test_a_burst_is_let_through_then_the_rate_and_other_keys_are_free() -> None:
    clock = Hands()
    rates = Rates(2.0, clock=clock)
    assert taken(rates, "busy", 100) == 2 * BURST_S
    assert taken(rates, "calm", 1) == 1
    clock.now += 1.5
    assert taken(rates, "busy", 100) == 3
    clock.now += 3600
    assert taken(rates, "busy", 100) == 2 * BURST_S


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 50)), max_size=30), st.floats(0.01, 20))
def test_never_more_than_the_burst_and_the_rate(course: list[tuple[float, int]], rate: float) -> None:
    clock = Hands()
    rates, passed = Rates(rate, clock=clock), 0
    for pause, attempts in course:
        clock.now += pause
        passed += taken(rates, "busy", attempts)
    assert passed <= max(1.0, rate * BURST_S) + (clock.now - 100.0) * rate + 1e-6


def test_ingresses_share_the_rate_and_without_one_there_is_no_limit() -> None:
    assert sum(taken(Rates(2.0, 4, Hands()), "busy", 100) for _ in range(4)) == 2 * BURST_S
    assert taken(Rates(None), "busy", 10_000) == 10_000


def test_the_answer_is_429_and_says_when_to_try_again(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'keys.db'}")
    with store.session() as session:
        keys = [create_key(session, name, ["read"], datetime.now(UTC)) for name in ("busy", "calm")]
    app = FastAPI()
    app.state.services = SimpleNamespace(keys=KeyRing(store), rates=Rates(0.1))

    @app.get("/thing", dependencies=[Depends(needs("read"))])
    async def thing() -> str:
        return "here"

    add_handlers(app)
    busy, calm = (TestClient(app, headers={"Authorization": f"Bearer {key}"}) for key in keys)
    assert busy.get("/thing").status_code == 200
    answer = busy.get("/thing")
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["error"] == "too_many_requests"
    assert "'busy'" in answer.json()["detail"]
    assert calm.get("/thing").status_code == 200
    assert TestClient(app).get("/thing").status_code == 401


@pytest.mark.parametrize("rate", [0.0, -1.0])
def test_a_rate_that_lets_nothing_through_is_no_setting(rate: float) -> None:
    from pydantic import ValidationError

    from fleetcast.settings import ServiceSettings

    with pytest.raises(ValidationError):
        ServiceSettings(requests_per_second=rate)
