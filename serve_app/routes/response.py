"""Reacting: remediation, cost."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.concurrency import run_in_threadpool

from fleetcast.cost.assumptions import save_assumptions
from fleetcast.cost.report import CostReport, cost_report
from fleetcast.remediation.views import PlanStatus, PlanView
from fleetcast.settings import CostSettings
from serve_app.schemas import ApproveRequest, ErrorAnswer, PlansAnswer
from serve_app.services import Approver, Needed, Operator, Reader, Services, ask

Limit = Annotated[int, Query(ge=1, le=1000)]
Id = Annotated[int, Path(ge=1, le=2**62)]

router = APIRouter(prefix="/v1", responses={409: {"model": ErrorAnswer}})


@router.get("/remediation/plans", tags=["remediation"])
async def plans(caller: Reader, needed: Needed, status: PlanStatus | None = None, limit: Limit = 200) -> PlansAnswer:
    """The newest plans: what would be done."""
    items: list[PlanView] = await ask(needed.remediation.newest.remote(status, limit))
    return PlansAnswer(items=items, dry_run=True)


@router.post("/remediation/plans/{plan_id}/approve", tags=["remediation"])
async def approve(plan_id: Id, request: ApproveRequest, caller: Approver, needed: Needed) -> PlanView:
    """Approve the plan that was read: its hash must be the plan's."""
    scopes = sorted(caller.scopes)
    found: PlanView = await ask(needed.remediation.approve.remote(plan_id, request.hash, caller.name, scopes))
    return found


@router.post("/remediation/plans/{plan_id}/reject", tags=["remediation"])
async def reject(plan_id: Id, caller: Approver, needed: Needed) -> PlanView:
    """Decide against a plan of which nothing has been carried out."""
    found: PlanView = await ask(needed.remediation.reject.remote(plan_id, caller.name, sorted(caller.scopes)))
    return found


@router.post("/remediation/plans/{plan_id}/execute", tags=["remediation"])
async def execute(plan_id: Id, caller: Operator, needed: Needed) -> PlanView:
    """Carry out an approved plan, once: in dry run its steps say what would have been done."""
    found: PlanView = await ask(needed.remediation.execute.remote(plan_id, caller.name))
    return found


@router.get("/cost", tags=["cost"])
async def cost(caller: Reader, needed: Needed) -> CostReport:
    """What avoided incidents would have been worth, with the assumptions behind it."""
    return await run_in_threadpool(_report, needed)


@router.put("/cost/assumptions", tags=["cost"])
async def assume(request: CostSettings, caller: Operator, needed: Needed) -> CostReport:
    """Save other assumptions under the caller's name; answers the report that follows from them."""
    await run_in_threadpool(_save, needed, request, caller.name)
    return await run_in_threadpool(_report, needed)


def _report(needed: Services) -> CostReport:
    return cost_report(needed.store, needed.args.cost, needed.clock.now())


def _save(needed: Services, values: CostSettings, author: str) -> None:
    with needed.store.session() as session:
        save_assumptions(session, values, author, needed.clock.now())
