"""The dashboard as a Ray Serve application."""

from __future__ import annotations

from fastapi import FastAPI
from ray import serve

CONNECTIONS = 1000


def build_dashboard(api_url: str, root_path: str = "/ui", certificate: str | None = None) -> serve.Application:
    """The application to run at `route_prefix=root_path`.

    The page and its sessions live in one replica. Each open page holds connections for its events, hence the high
    limit on ongoing requests.
    """

    def page() -> FastAPI:
        from serve_app.dashboard.web import make_app  # noqa: PLC0415  # Gradio loads in the replica only

        return make_app(api_url, root_path, certificate)

    deployment = serve.deployment(
        name="dashboard",
        num_replicas=1,
        max_ongoing_requests=CONNECTIONS,
        graceful_shutdown_timeout_s=2.0,
        ray_actor_options={"num_cpus": 0},
    )
    return deployment(serve.ingress(page)()).bind()
