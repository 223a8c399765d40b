"""Logging in: a plain form, a session cookie, and the door that sends everyone else to the form."""

from __future__ import annotations

from typing import Annotated

import httpx
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup
from starlette.types import ASGIApp, Receive, Scope, Send

from fleetcast.errors import AuthenticationError, ServiceError
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.sessions import SESSION_SECONDS, Session, Sessions
from serve_app.dashboard.style import login_css

COOKIE = "fleetcast_session"
SEE_OTHER = 303

PAGE = Markup(
    """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>FleetCast: log in</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>{css}</style></head>
<body class="fc-login"><main><h1>FleetCast</h1>
<p>Log in with an API key. The page acts with the key's scopes and keeps it in memory only.</p>
<form method="post" action="login">
<label>Key name<input name="username" autocomplete="username" value="{name}" required autofocus></label>
<label>API key<input name="password" type="password" autocomplete="current-password" required></label>
<p class="fc-bad" role="alert">{error}</p>
<button type="submit">Log in</button></form>
<p class="fc-hint">The first key was printed once, when the service first started.</p></main></body></html>"""
)


def session_of(request: Request, sessions: Sessions) -> Session | None:
    """The session that the request's cookie names."""
    return sessions.find(request.cookies.get(COOKIE))


def login_routes(http: httpx.Client, sessions: Sessions, root_path: str) -> APIRouter:
    """`GET /login`, `POST /login`, `GET /logout`; the cookie is sent back below `root_path` only."""
    router = APIRouter()

    @router.get("/login", response_class=HTMLResponse)
    def form() -> HTMLResponse:
        return _page()

    @router.post("/login")
    def login(request: Request, username: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
        name, key = username.strip(), password.strip()
        try:
            person = FleetApi(http, key).whoami()
        except AuthenticationError:
            return _page(name, "Key name and API key do not match a key of this service.", 401)
        except ServiceError as error:
            return _page(name, f"Cannot check the key: {error}", 503)
        if person.name != name:
            return _page(name, "Key name and API key do not match a key of this service.", 401)
        answer = RedirectResponse("./", status_code=SEE_OTHER)
        answer.set_cookie(
            COOKIE,
            sessions.open(name, tuple(person.scopes), key),
            max_age=int(SESSION_SECONDS),
            path=root_path or "/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.get("/logout")
    def logout(request: Request) -> Response:
        sessions.close(request.cookies.get(COOKIE))
        answer = RedirectResponse("login", status_code=SEE_OTHER)
        answer.delete_cookie(COOKIE, path=root_path or "/")
        return answer

    return router


class LoginDoor:
    """ASGI middleware: a browser that opens the page without a session is sent to the form."""

    def __init__(self, app: ASGIApp, sessions: Sessions, root_path: str) -> None:
        self._app, self._sessions, self._root_path = app, sessions, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect `GET /` without a session; Gradio itself refuses the rest."""
        front = scope["type"] == "http" and scope["path"].removeprefix(self._root_path) in {"", "/"}
        if front and session_of(Request(scope), self._sessions) is None:
            await RedirectResponse(f"{self._root_path}/login", status_code=SEE_OTHER)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _page(name: str = "", error: str = "", status: int = 200) -> HTMLResponse:
    return HTMLResponse(PAGE.format(css=Markup(login_css()), name=name, error=error), status)
