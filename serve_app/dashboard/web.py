"""The dashboard as one ASGI application, for a Serve replica or for plain uvicorn."""

from __future__ import annotations

import os

import fastapi
import httpx

from fleetcast.errors import AuthenticationError
from fleetcast.operate.tls import trust
from serve_app.dashboard.client import FleetApi
from serve_app.dashboard.login import LoginDoor, login_routes, session_of
from serve_app.dashboard.sessions import Sessions

TIMEOUT = httpx.Timeout(20.0, connect=3.0)


def make_app(api_url: str, root_path: str = "", certificate: str | None = None) -> fastapi.FastAPI:
    """The page with its login, talking to the API at `api_url`, below `root_path` of the public address.

    A quick look without Ray: `uvicorn --factory` on a function that returns `make_app("http://127.0.0.1:8000")`.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio asks the environment when it is first imported
    import gradio as gr  # noqa: PLC0415

    from serve_app.dashboard import style  # noqa: PLC0415
    from serve_app.dashboard.page import make_blocks  # noqa: PLC0415

    sessions = Sessions()
    http = httpx.Client(base_url=api_url, timeout=TIMEOUT, trust_env=False, verify=trust(certificate))

    def client(request: gr.Request) -> FleetApi:
        session = session_of(request.request, sessions) if request.request else None
        if session is None:
            raise AuthenticationError("Your session has ended. Reload the page to log in again.")
        return FleetApi(http, session.key)

    def person(request: fastapi.Request) -> str | None:
        session = session_of(request, sessions)
        return session.name if session else None

    app = fastapi.FastAPI(title="FleetCast dashboard", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(login_routes(http, sessions, root_path))
    app.add_middleware(LoginDoor, sessions=sessions, root_path=root_path)
    gr.mount_gradio_app(
        app,
        make_blocks(client),
        path="/",
        root_path=root_path or None,
        auth_dependency=person,
        theme=style.theme(),
        css=style.page_css(),
        js=style.LIGHT_ONLY,
        head=style.HEAD,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
    )
    return app
