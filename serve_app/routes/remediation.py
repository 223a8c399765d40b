"""Remediation: plans, who approves them, carrying them out, and the switch that stops all."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.concurrency import run_in_threadpool

from fleetcast.remediation.control import ControlView
from fleetcast.remediation.effects import estimates
from fleetcast.remediation.simulated_executor import SimulatedAction
from fleetcast.remediation.views import PlanStatus, PlanView
from serve_app.schemas import ApproveRequest, ErrorAnswer, PlansAnswer
from serve_app.schemas_remediation import Effects, PlanRequest, RemediationStatus, SimulatedActions, StopRequest
from serve_app.services import Approver, Needed, Operator, Reader, Services, ask

Limit = Annotated[int, Query(ge=1, le=1000)]
Id = Annotated[int, Path(ge=1, le=2**62)]

router = APIRouter(prefix="/v1/remediation", tags=["remediation"], responses={409: {"model": ErrorAnswer}})


@router.get("")
async def status(caller: Reader, needed: Needed) -> RemediationStatus:
    """What remediation may do, and whether it is stopped."""
    return _status(needed, await ask(needed.remediation.control.remote()))


@router.post("/stop")
async def stop(request: StopRequest, caller: Operator, needed: Needed) -> RemediationStatus:
    """The kill switch: no action starts any more, not even the next step of a plan under way."""
    return _status(needed, await ask(needed.remediation.stop.remote(caller.name, request.reason)))


@router.post("/release")
async def release(caller: Approver, needed: Needed) -> RemediationStatus:
    """Let actions start again, after the kill switch or the circuit breaker."""
    return _status(needed, await ask(needed.remediation.release.remote(caller.name)))


@router.get("/plans")
async def plans(
    caller: Reader,
    needed: Needed,
    status: PlanStatus | None = None,
    limit: Limit = 200,
) -> PlansAnswer:
    """The newest plans."""
    items: list[PlanView] = await ask(needed.remediation.newest.remote(status, limit))
    return PlansAnswer(items=items, dry_run=needed.args.remediation.mode == "dry_run")


@router.post("/plans")
async def request(request: PlanRequest, caller: Operator, needed: Needed) -> PlanView:
    """Ask for a plan for a live alert, in place of one that waits for approval; somebody else has to approve it."""
    found: PlanView = await ask(needed.remediation.request.remote(request.alert_id, caller.name))
    return found


@router.get("/plans/{plan_id}")
async def plan(plan_id: Id, caller: Reader, needed: Needed) -> PlanView:
    """One plan."""
    found: PlanView = await ask(needed.remediation.plan.remote(plan_id))
    return found


@router.post("/plans/{plan_id}/approve")
async def approve(plan_id: Id, request: ApproveRequest, caller: Approver, needed: Needed) -> PlanView:
    """Approve the plan that was read: its hash must be the plan's."""
    scopes = sorted(caller.scopes)
    found: PlanView = await ask(needed.remediation.approve.remote(plan_id, request.hash, caller.name, scopes))
    return found


@router.post("/plans/{plan_id}/reject")
async def reject(plan_id: Id, caller: Approver, needed: Needed) -> PlanView:
    """Decide against a plan of which nothing has been carried out."""
    found: PlanView = await ask(needed.remediation.reject.remote(plan_id, caller.name, sorted(caller.scopes)))
    return found


@router.post("/plans/{plan_id}/execute")
async def execute(plan_id: Id, caller: Operator, needed: Needed) -> PlanView:
    """Carry out an approved plan, once; one that takes long is answered with how far it is, and goes on."""
    found: PlanView = await ask(needed.remediation.execute.remote(plan_id, caller.name))
    return found


@router.post("/plans/{plan_id}/rollback")
async def roll_back(plan_id: Id, caller: Operator, needed: Needed) -> PlanView:
    """Take back what a plan has done, as far as its steps say how."""
    found: PlanView = await ask(needed.remediation.roll_back.remote(plan_id, caller.name))
    return found


@router.get("/effects")
async def effects(caller: Reader, needed: Needed) -> Effects:
    """The share of incidents that each playbook prevents: estimates from past executions and trials."""

    def read() -> Effects:
        with needed.store.reading() as session:
            return Effects(playbooks=estimates(session))

    return await run_in_threadpool(read)


@router.get("/simulated")
async def simulated(
    caller: Reader, needed: Needed, after: Annotated[int, Query(ge=0, le=2**62)] = 0
) -> SimulatedActions:
    """What was done to the simulated fleet, for the feed that simulates it."""
    items: list[SimulatedAction] = await ask(needed.remediation.simulated.remote(after))
    return SimulatedActions(items=items)


def _status(needed: Services, found: ControlView) -> RemediationStatus:
    return RemediationStatus(mode=needed.args.remediation.mode, control=found)
