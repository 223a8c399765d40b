"""Deployment `remediation`: plans for open alerts, approvals, and carrying out what was approved. One replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from fleetcast.alerting.views import AlertView
from fleetcast.errors import ConflictError
from fleetcast.remediation import control
from fleetcast.remediation.build import build_runner
from fleetcast.remediation.control import ControlView
from fleetcast.remediation.engine import RemediationEngine
from fleetcast.remediation.fleet import Surroundings
from fleetcast.remediation.simulated_executor import SimulatedAction, actions_after
from fleetcast.remediation.views import PlanStatus, PlanView
from fleetcast.store.engine import open_store
from serve_app.arguments import AppArgs

logger = logging.getLogger("ray.serve")

ANSWER_S = 5.0
"""After so long a plan under way is answered with what it has come to; it goes on."""


class Remediation:
    """Proposes one plan an alert and carries out approved ones, as far as the settings let it.

    Whatever is due without anybody asking (post-checks, interrupted plans, plans that the policy approves) is looked
    after when it starts and after every cycle.
    """

    def __init__(self, args: AppArgs, edges: Sequence[tuple[str, str]] = ()) -> None:
        clock, store = args.clock.build(), open_store(args.database)
        self._store, self._clock, self._edges = store, clock, edges
        self._engine = RemediationEngine(store, clock, args.remediation)
        self._runner = build_runner(store, clock, args.remediation)
        self._around = Surroundings({}, edges)
        self._proposing = asyncio.Lock()
        self._tending: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[PlanView]] = set()
        self._tend()

    async def propose(self, alerts: Sequence[AlertView], profiles: Mapping[str, str]) -> int:
        """Make sure that each of these alerts has its plan; returns how many have one. May be repeated."""
        async with self._proposing:
            self._around = Surroundings(profiles, self._edges)
            plans = [await asyncio.to_thread(self._engine.propose, alert.id, self._around) for alert in alerts]
        self._tend()
        return sum(plan is not None for plan in plans)

    async def request(self, alert_id: int, by: str) -> PlanView:
        """A person asks for a plan. Raises `NotFoundError`, `ConflictError`, `PermissionDeniedError`."""
        if not self._around.is_known:
            raise ConflictError("what a plan touches is not known before the service's first cycle: ask again then")
        plan = await asyncio.to_thread(self._engine.propose, alert_id, self._around, by)
        if plan is None:
            raise ConflictError(f"alert {alert_id} is over, explained by another, or its server is never acted on")
        return plan

    async def newest(self, status: PlanStatus | None, limit: int) -> list[PlanView]:
        """The newest plans."""
        return await asyncio.to_thread(self._engine.list_plans, status, limit)

    async def plan(self, plan_id: int) -> PlanView:
        """One plan. Raises `NotFoundError`."""
        return await asyncio.to_thread(self._engine.get, plan_id)

    async def approve(self, plan_id: int, plan_hash: str, by: str, scopes: Collection[str]) -> PlanView:
        """Approve the plan whose hash was read. Raises `NotFoundError`, `ConflictError`, `PermissionDeniedError`."""
        return await asyncio.to_thread(self._engine.approve, plan_id, plan_hash, by, scopes)

    async def reject(self, plan_id: int, by: str, scopes: Collection[str]) -> PlanView:
        """Decide against a plan. Raises `NotFoundError`, `ConflictError`, `PermissionDeniedError`."""
        return await asyncio.to_thread(self._engine.reject, plan_id, by, scopes)

    async def execute(self, plan_id: int, by: str) -> PlanView:
        """Carry out an approved plan once. Raises `NotFoundError`, `ConflictError`."""
        return await self._answered(self._runner.execute, plan_id, by)

    async def roll_back(self, plan_id: int, by: str) -> PlanView:
        """Take back what a plan did. Raises `NotFoundError`, `ConflictError`."""
        return await self._answered(self._runner.roll_back, plan_id, by)

    async def control(self) -> ControlView:
        """Whether actions may start."""
        return await asyncio.to_thread(self._control)

    async def stop(self, by: str, reason: str) -> ControlView:
        """Stop everything."""

        def stop() -> None:
            with self._store.session() as session:
                control.stop(session, by, reason, self._clock.now())

        await asyncio.to_thread(stop)
        return await self.control()

    async def release(self, by: str) -> ControlView:
        """Let actions start again."""

        def release() -> None:
            with self._store.session() as session:
                control.release(session, by, self._clock.now())

        await asyncio.to_thread(release)
        self._tend()
        return await self.control()

    async def simulated(self, after: int) -> list[SimulatedAction]:
        """What was done to the simulated fleet after an action."""

        def read() -> list[SimulatedAction]:
            with self._store.reading() as session:
                return actions_after(session, after)

        return await asyncio.to_thread(read)

    async def _answered(self, what: Callable[[int, str], PlanView], plan_id: int, by: str) -> PlanView:
        """What came of it, or how far it is after a while."""
        task = asyncio.create_task(asyncio.to_thread(what, plan_id, by))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait({task}, timeout=ANSWER_S)
        if not task.done():
            task.add_done_callback(_log)
            return await self.plan(plan_id)
        return task.result()

    def _control(self) -> ControlView:
        with self._store.reading() as session:
            return control.control_view(session)

    def _tend(self) -> None:
        """In the background, unless that goes on already."""
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._tended())

    async def _tended(self) -> None:
        try:
            await asyncio.to_thread(self._runner.tend)
        except Exception:
            logger.exception("plans were not looked after; the next cycle tries again")


def _log(task: asyncio.Task[PlanView]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.warning("a plan under way was given up for now: %s", error)
