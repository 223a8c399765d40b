"""The books: what avoided incidents are worth, the assumptions behind it, and the audit trail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from fleetcast.cost.assumptions import list_assumptions, save_assumptions
from fleetcast.cost.report import CostReport, cost_report
from fleetcast.settings import CostSettings
from fleetcast.store.audit import list_audit, parse_anchor, verify
from serve_app.schemas import ErrorAnswer
from serve_app.schemas_remediation import AssumptionHistory, AssumptionItem, AuditCheck, AuditItem, AuditPage
from serve_app.services import Admin, Needed, Operator, Reader, Services

router = APIRouter(prefix="/v1", responses={409: {"model": ErrorAnswer}})


@router.get("/cost", tags=["cost"])
async def cost(caller: Reader, needed: Needed) -> CostReport:
    """What avoided incidents would have been worth, with the assumptions behind it."""
    return await run_in_threadpool(_report, needed)


@router.get("/cost/assumptions", tags=["cost"])
async def assumptions(caller: Reader, needed: Needed) -> AssumptionHistory:
    """Every set of assumptions with its author and time, newest first."""

    def read() -> AssumptionHistory:
        with needed.store.reading() as session:
            found = list_assumptions(session, needed.args.cost)
        return AssumptionHistory(
            items=[AssumptionItem(values=one.values, author=one.author, at=one.at) for one in found]
        )

    return await run_in_threadpool(read)


@router.put("/cost/assumptions", tags=["cost"])
async def assume(request: CostSettings, caller: Operator, needed: Needed) -> CostReport:
    """Save other assumptions under the caller's name; answers the report that follows from them."""
    await run_in_threadpool(_save, needed, request, caller.name)
    return await run_in_threadpool(_report, needed)


@router.get("/audit", tags=["audit"])
async def audit(
    caller: Admin,
    needed: Needed,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> AuditPage:
    """The newest entries of the audit trail, newest first."""

    def read() -> AuditPage:
        with needed.store.reading() as session:
            return AuditPage(items=[AuditItem.model_validate(entry) for entry in list_audit(session, limit, before)])

    return await run_in_threadpool(read)


@router.get("/audit/verify", tags=["audit"])
async def audit_check(
    caller: Admin, needed: Needed, anchor: Annotated[str | None, Query(max_length=100)] = None
) -> AuditCheck:
    """Check every hash of the audit trail; 409 names the first entry that is wrong. `anchor` is a noted `ID:HASH`."""
    noted = None if anchor is None else parse_anchor(anchor)

    def check() -> AuditCheck:
        with needed.store.reading() as session:
            return AuditCheck.model_validate(verify(session, noted))

    return await run_in_threadpool(check)


def _report(needed: Services) -> CostReport:
    return cost_report(needed.store, needed.args.cost, needed.clock.now())


def _save(needed: Services, values: CostSettings, author: str) -> None:
    with needed.store.session() as session:
        save_assumptions(session, values, author, needed.clock.now())
