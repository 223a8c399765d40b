"""What the routes of the ingress work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypeVar

from fastapi import Depends
from ray.serve.exceptions import BackPressureError
from starlette.requests import HTTPConnection

from fleetcast.alerting.routing import Routing
from fleetcast.clock import Clock
from fleetcast.errors import ServiceError
from fleetcast.store.engine import Store
from fleetcast.store.keys import Principal
from serve_app.arguments import AppArgs
from serve_app.auth import KeyRing, needs
from serve_app.handles import Handle
from serve_app.rates import Rates
from serve_app.tally import Report, Tally

Answer = TypeVar("Answer")

ANSWER_S = 10.0


@dataclass(frozen=True)
class Services:
    """The other deployments and what this process has itself; `steps` are those of history that a model may read."""

    args: AppArgs
    steps: int
    clock: Clock
    store: Store
    keys: KeyRing
    history: Handle
    watcher: Handle
    forecaster: Handle
    alerts: Handle
    remediation: Handle

    @cached_property
    def rates(self) -> Rates:
        """How often each key has asked this process."""
        return Rates(self.args.service.requests_per_second, self.args.service.ingress_replicas)

    @cached_property
    def shadow(self) -> bool:
        """Whether no route of alerts sends anything."""
        return Routing.load(self.args.alerts.routing, self.args.alerts.shadow).shadow

    @cached_property
    def tally(self) -> Tally:
        """What this process counts, for the watcher."""

        async def tell(report: Report) -> None:
            await self.watcher.report.remote(report)

        return Tally(tell)


class UnavailableError(ServiceError):
    """A part of the service does not answer now (503)."""


class BusyError(ServiceError):
    """More calls wait than the forecasters take (429)."""


class NoSuchThingError(ServiceError):
    """The thing that the address names is not there (404)."""


class TooLargeError(ServiceError):
    """The request is larger than the service takes (413)."""


async def ask(answer: Awaitable[Answer], seconds: float = ANSWER_S) -> Answer:
    """Wait for another deployment's answer. Raises `UnavailableError` after `seconds`, `BusyError` at once."""
    try:
        return await asyncio.wait_for(answer, seconds)
    except BackPressureError:  # Serve itself would answer 503 without Retry-After
        raise BusyError("the forecasters have as much to do as they can take; try again") from None
    except TimeoutError:
        raise UnavailableError(f"a part of the service has not answered within {seconds:g} s; try again") from None


def services(connection: HTTPConnection) -> Services:
    """A dependency of routes."""
    found: Services = connection.app.state.services
    return found


Needed = Annotated[Services, Depends(services)]
AnyKey = Annotated[Principal, Depends(needs(None))]
Reader = Annotated[Principal, Depends(needs("read"))]
Writer = Annotated[Principal, Depends(needs("write"))]
Operator = Annotated[Principal, Depends(needs("operate"))]
Admin = Annotated[Principal, Depends(needs("admin"))]
Approver = Annotated[Principal, Depends(needs("approve"))]
