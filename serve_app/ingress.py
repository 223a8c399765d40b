"""Deployment `ingress`: the HTTP API. Thin: keys, limits, translation; the work is done by the other deployments."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from ray import serve

from fleetcast import __version__
from fleetcast.store.engine import open_store
from serve_app.arguments import AppArgs
from serve_app.auth import KeyRing
from serve_app.caching import Revalidation
from serve_app.examples import add_examples
from serve_app.handles import Handle
from serve_app.hub import Hub
from serve_app.limits import BodyLimit
from serve_app.refusals import add_handlers
from serve_app.routes import (
    alerts,
    cost,
    demo,
    documents,
    fleet,
    health,
    intake,
    metrics,
    on_demand,
    past,
    remediation,
    remote_write,
    stream,
)
from serve_app.schemas import ErrorAnswer, StreamMessage
from serve_app.services import Services
from serve_app.tally import Counting

KEY = HTTPBearer(auto_error=False, description="an API key, `fc_...`")  # for the document; routes check it themselves
DESCRIPTION = (
    "Forecasts of a server fleet, eight hours ahead. Every /v1 route needs an API key in the header "
    "`Authorization: Bearer fc_...`; times are UTC, values in the units of the data contract."
)


@serve.ingress()
class Ingress:
    """The FastAPI application and the handles that its routes use."""

    def __init__(
        self,
        args: AppArgs,
        steps: int,
        history: Handle,
        watcher: Handle,
        forecaster: Handle,
        alerts: Handle,
        remediation: Handle,
    ) -> None:
        store = open_store(args.database)
        self._services = Services(
            args, steps, args.clock.build(), store, KeyRing(store), history, watcher, forecaster, alerts, remediation
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application of this replica."""
        return make_app(self._services)


class Api(FastAPI):
    """The application; its document has examples."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return add_examples(super().openapi())


def make_app(services: Services) -> FastAPI:
    """The API over these deployments."""
    app = Api(
        title="FleetCast",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        responses={status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 422, 429, 503)},
    )

    async def poll(after: int) -> list[StreamMessage]:
        messages: list[StreamMessage] = await services.watcher.messages.remote(after)
        return messages

    app.state.services = services
    app.state.hub = Hub(poll)
    for group in (fleet, past, on_demand, intake, remote_write, alerts, remediation, cost, demo, metrics):
        app.include_router(group.router, dependencies=[Depends(KEY)])
    for group in (health, stream, documents):
        app.include_router(group.router)
    add_handlers(app)
    app.add_middleware(Revalidation)
    app.add_middleware(BodyLimit, most=services.args.service.max_body_bytes)
    app.add_middleware(Counting, tally=services.tally)
    return app
