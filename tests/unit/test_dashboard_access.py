"""Who gets in, and with whose rights: sessions, the login form, the API client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastapi
import gradio as gr
import httpx
import pytest
from fastapi.testclient import TestClient

from fleetcast.errors import AuthenticationError, PermissionDeniedError, ServiceError
from serve_app.dashboard.client import FleetApi, NotFoundError
from serve_app.dashboard.login import COOKIE, LoginDoor, login_routes, session_of
from serve_app.dashboard.sessions import MAX_SESSIONS, SESSION_SECONDS, Sessions
from serve_app.dashboard.view import View, action, refresher

KEYS = {"fc_ada": {"name": "ada", "scopes": ["read", "operate"]}}
Answer = Callable[[httpx.Request], httpx.Response]


def network(answer: Answer) -> httpx.Client:
    return httpx.Client(base_url="http://api", transport=httpx.MockTransport(answer))


def whoami(request: httpx.Request) -> httpx.Response:
    person = KEYS.get(request.headers["Authorization"].removeprefix("Bearer "))
    if person is None:
        return httpx.Response(401, json={"error": "authentication", "detail": "unknown API key"})
    return httpx.Response(200, json=person)


def refused(status: int, detail: str) -> FleetApi:
    body = {"error": "refused", "detail": detail}
    return FleetApi(network(lambda request: httpx.Response(status, json=body)), "fc_ada")


# Sessions


def test_a_session_ends_after_its_time_and_on_logout() -> None:
    now = [0.0]
    sessions = Sessions(clock=lambda: now[0])
    first, second = (sessions.open("ada", ("read",), "fc_ada") for _ in range(2))
    now[0] = SESSION_SECONDS - 1
    assert sessions.find(first) == sessions.find(second)
    sessions.close(first)
    assert sessions.find(first) is None
    now[0] = SESSION_SECONDS
    assert sessions.find(second) is None


def test_the_oldest_sessions_make_room() -> None:
    sessions = Sessions()
    tokens = [sessions.open("ada", (), "fc_ada") for _ in range(MAX_SESSIONS + 1)]
    assert len(set(tokens)) == len(tokens)
    assert sessions.find(tokens[0]) is None
    assert sessions.find(tokens[1]) is not None


def test_a_session_does_not_show_its_key() -> None:
    sessions = Sessions()
    assert "fc_ada" not in repr(sessions.find(sessions.open("ada", (), "fc_ada")))


# Login


@pytest.fixture
def browser() -> TestClient:
    sessions = Sessions()
    app = fastapi.FastAPI()
    app.include_router(login_routes(network(whoami), sessions, ""))
    app.add_middleware(LoginDoor, sessions=sessions, root_path="")

    @app.get("/")
    def page(request: fastapi.Request) -> dict[str, Any]:
        session = session_of(request, sessions)
        return {"name": session and session.name}

    return TestClient(app, follow_redirects=False)


@pytest.mark.parametrize(("name", "key"), [("ada", "fc_wrong"), ("bob", "fc_ada"), ("ada<b>", "fc_wrong")])
def test_a_wrong_key_or_name_is_refused_with_the_form(browser: TestClient, name: str, key: str) -> None:
    answer = browser.post("/login", data={"username": name, "password": key})
    assert answer.status_code == 401
    assert "do not match" in answer.text
    assert key not in answer.text
    assert "<b>" not in answer.text
    assert not answer.cookies


def test_the_page_asks_for_a_login_and_opens_after_it(browser: TestClient) -> None:
    assert browser.get("/").headers["location"] == "/login"
    answer = browser.post("/login", data={"username": " ada ", "password": "fc_ada"})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "fc_ada" not in cookie
    assert browser.get("/").json() == {"name": "ada"}


def test_logging_out_ends_the_session(browser: TestClient) -> None:
    token = browser.post("/login", data={"username": "ada", "password": "fc_ada"}).cookies[COOKIE]
    assert browser.get("/logout").headers["location"] == "login"
    browser.cookies.set(COOKIE, token)
    assert browser.get("/").headers["location"] == "/login"


def test_the_form_says_when_the_service_does_not_answer() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    app = fastapi.FastAPI()
    app.include_router(login_routes(network(silent), Sessions(), ""))
    answer = TestClient(app).post("/login", data={"username": "ada", "password": "fc_ada"})
    assert answer.status_code == 503
    assert "does not answer" in answer.text


# The client


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, AuthenticationError), (403, PermissionDeniedError), (404, NotFoundError), (503, ServiceError)],
)
def test_a_refusal_keeps_the_words_of_the_api(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="needs the scope operate"):
        refused(status, "needs the scope operate").acknowledge("1")


def test_an_answer_of_another_shape_is_named() -> None:
    api = FleetApi(network(lambda request: httpx.Response(200, json={"ready": True})), "fc_ada")
    with pytest.raises(ServiceError, match=r"GET /v1/status .*\(reasons"):
        api.status()


def test_a_server_name_cannot_leave_its_place_in_the_path() -> None:
    seen: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path.decode())
        return httpx.Response(404, json={"error": "x", "detail": "no such server"})

    with pytest.raises(NotFoundError):
        FleetApi(network(note), "fc_ada").forecast("../../status?x=1#y")
    assert seen == ["/v1/servers/..%2F..%2Fstatus%3Fx%3D1%23y/forecast"]


# Refreshes and buttons


def test_a_failed_refresh_says_why_and_keeps_what_is_shown() -> None:
    view = View(gr.HTML(), lambda api: (api.status(),), [], [gr.HTML()])
    notice, kept = refresher(lambda request: refused(503, "<no> cycle"), view)(gr.Request())
    assert notice.visible
    assert "&lt;no&gt; cycle" in notice.value
    assert kept == gr.skip()


def test_a_refused_button_shows_the_words_of_the_api() -> None:
    press = action(lambda request: refused(403, "needs the scope operate"), lambda api: api.acknowledge("1").message)
    with pytest.raises(gr.Error, match="Not allowed: needs the scope operate"):
        press(gr.Request())
