"""Deployment `remediation`: plans for open alerts, approvals, dry runs. One replica."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from fleetcast.alerting.views import AlertView
from fleetcast.remediation.engine import RemediationEngine
from fleetcast.remediation.views import PlanStatus, PlanView
from fleetcast.store.engine import open_store
from serve_app.arguments import AppArgs


class Remediation:
    """Proposes one plan an alert and carries out approved ones, in dry run."""

    def __init__(self, args: AppArgs) -> None:
        self._clock = args.clock.build()
        self._engine = RemediationEngine(open_store(args.database))
        self._one_at_a_time = asyncio.Lock()

    async def propose(self, alerts: Sequence[AlertView], profiles: Mapping[str, str]) -> int:
        """Make sure that each of these alerts has its plan; returns how many have one. May be repeated."""
        async with self._one_at_a_time:
            plans = [
                await asyncio.to_thread(self._engine.propose, alert, self._clock.now(), profiles) for alert in alerts
            ]
        return sum(plan is not None for plan in plans)

    async def newest(self, status: PlanStatus | None, limit: int) -> list[PlanView]:
        """The newest plans."""
        return await asyncio.to_thread(self._engine.list_plans, self._clock.now(), status, limit)

    async def approve(self, plan_id: int, plan_hash: str, by: str, scopes: Collection[str]) -> PlanView:
        """Approve the plan whose hash was read. Raises `NotFoundError`, `ConflictError`, `PermissionDeniedError`."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._engine.approve, plan_id, plan_hash, by, scopes, self._clock.now())

    async def reject(self, plan_id: int, by: str, scopes: Collection[str]) -> PlanView:
        """Decide against a plan. Raises `NotFoundError`, `ConflictError`, `PermissionDeniedError`."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._engine.reject, plan_id, by, scopes, self._clock.now())

    async def execute(self, plan_id: int, by: str) -> PlanView:
        """Carry out an approved plan once, in dry run. Raises `NotFoundError`, `ConflictError`."""
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._engine.execute, plan_id, by, self._clock.now())
