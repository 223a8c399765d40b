"""The demo's scenarios: asked for here, played by the feed."""

from __future__ import annotations

from fastapi import APIRouter

from serve_app.schemas import DemoInfo, ScenarioRequest
from serve_app.services import Needed, NoSuchThingError, Operator, Reader, ask
from serve_app.watcher import Scenario

router = APIRouter(prefix="/v1/demo", tags=["demo"])


@router.get("")
async def demo(caller: Reader, needed: Needed) -> DemoInfo:
    """The scenario that the feed is asked to play."""
    return _info(await ask(needed.watcher.scenario.remote()))


@router.put("/scenario")
async def switch(request: ScenarioRequest, caller: Operator, needed: Needed) -> DemoInfo:
    """Ask for a scenario; 404 unless the service runs on a simulated clock."""
    found: Scenario | None = await ask(needed.watcher.switch.remote(request.name, request.servers))
    if found is None:
        raise NoSuchThingError("scenarios need a service on a simulated clock, as `fleetcast demo` starts it")
    return _info(found)


def _info(scenario: Scenario | None) -> DemoInfo:
    if scenario is None:
        return DemoInfo(enabled=False, scenario=None, since=None, servers=None)
    servers = None if scenario.servers is None else list(scenario.servers)
    return DemoInfo(enabled=True, scenario=scenario.name, since=scenario.since, servers=servers)
