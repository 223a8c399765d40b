"""Carrying out approved plans, whatever is killed in between: steps, post-checks, and taking back what failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from sqlalchemy import select

from fleetcast.clock import Clock
from fleetcast.errors import ConflictError, FleetCastError, LimitError
from fleetcast.remediation import control, effects, mitigation
from fleetcast.remediation.actions import Actions, Work
from fleetcast.remediation.admission import admit, require_mode
from fleetcast.remediation.claim import Heart, claim
from fleetcast.remediation.executor import Executor
from fleetcast.remediation.plan import PlanContent
from fleetcast.remediation.present import POLICY, plan_view
from fleetcast.remediation.rows import checked_content, expect, plan_row, read_plan
from fleetcast.remediation.verdict import Probe, Verdict, verdict, wrong_answer
from fleetcast.remediation.views import PlanView
from fleetcast.settings import RemediationSettings
from fleetcast.store import audit
from fleetcast.store.engine import Store
from fleetcast.store.leases import require_lease
from fleetcast.store.tables_remediation import ApprovalTable, PlanTable

logger = logging.getLogger(__name__)

STRIPES = 16
THROUGH = ("verifying", "executed", "rolled_back", "failed")


class Runner:
    """Carries plans out with the executors that it is given, by name. Several may work on one database."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: RemediationSettings,
        executors: Mapping[str, Executor],
        probe: Probe,
    ) -> None:
        self.store, self.clock, self.settings, self._probe = store, clock, settings, probe
        self._actions = Actions(store, clock, executors)
        self._locks = [threading.Lock() for _ in range(STRIPES)]

    def execute(self, plan_id: int, by: str) -> PlanView:
        """Carry out an approved plan, or go on with one that was interrupted; changes nothing when it is through.

        Unless it is a dry run, every call is rehearsed before the first one is made. When a step fails, those before
        it are taken back. Raises `NotFoundError`; `ConflictError` when the plan is not approved, has expired, a
        pre-check or a rehearsal fails, or another process carries it out; `LimitError` when a limit is reached or all
        is stopped. In all these cases nothing (further) was done.
        """
        with self._locks[plan_id % STRIPES]:
            with self.store.session() as session:
                status = read_plan(session, plan_id).status
                content = None
                if status in control.RUNNING:
                    control.require_running(session)
                    require_mode(plan_id, checked_content(plan_row(session, plan_id)), self.settings)
                elif status not in THROUGH:
                    content = admit(session, plan_id, self.settings, self.clock.now())
            if content is not None:
                self._rehearse(plan_id, content)
            if status not in THROUGH:
                self._claimed(plan_id, by, self._carry_out)
            return self._view(plan_id)

    def roll_back(self, plan_id: int, by: str) -> PlanView:
        """Take back what a plan has done, as far as its steps say how. Raises as `execute` does."""
        with self._locks[plan_id % STRIPES]:
            with self.store.session() as session:
                row = plan_row(session, plan_id)
                expect(row, self.clock.now(), "rolling_back", "executing", "verifying", "executed")
                if row.mode == "dry_run":
                    raise ConflictError(f"plan {plan_id} is a dry run: there is nothing to take back")
                control.require_running(session)
                require_mode(plan_id, checked_content(row), self.settings)
            self._claimed(plan_id, by, lambda work: self._take_back(work, f"{by} took it back"))
            return self._view(plan_id)

    def tend(self) -> list[int]:
        """What is due without anybody asking: interrupted plans, plans that the policy has approved, post-checks.

        What one plan refuses does not keep the others waiting. Returns the plans that were worked on.
        """
        with self.store.session() as session:
            effects.settle(session)
            if control.control_view(session).stopped:
                return []
        return [plan_id for plan_id in self.due() if self._attempt(self.execute, plan_id)] + self.verify()

    def due(self) -> list[int]:
        """Plans that were interrupted, and those that the policy has approved."""
        now = self.clock.now()
        automatic = (PlanTable.status == "approved") & (PlanTable.expires_at > now) & (ApprovalTable.role == POLICY)
        query = select(PlanTable.id).outerjoin(ApprovalTable).order_by(PlanTable.id)
        with self.store.reading() as session:
            return list(session.scalars(query.where(automatic | PlanTable.status.in_(control.RUNNING))))

    def verify(self) -> list[int]:
        """Look at the post-checks of plans that wait for them; returns those whose wait is over."""
        with self.store.reading() as session:
            waiting = list(session.scalars(select(PlanTable.id).where(PlanTable.status == "verifying")))
        return [plan_id for plan_id in waiting if self._verified(plan_id)]

    def _verified(self, plan_id: int) -> bool:
        found = self._verdict(plan_id)
        if found.waits:
            return False
        if not found.well:
            return self._attempt(
                lambda number, by: self._claimed(number, by, lambda work: self._take_back(work, found.reason)), plan_id
            )
        now = self.clock.now()
        with self.store.session() as session:
            row = plan_row(session, plan_id)
            if row.status != "verifying":
                return False
            row.status, row.ended_at = "executed", now
            control.count_outcome(session, plan_id, True, self.settings, now)
            audit.record(session, now, POLICY, "plan has worked", str(plan_id), row.hash)
        return True

    def _attempt(self, what: Callable[[int, str], object], plan_id: int) -> bool:
        try:
            what(plan_id, POLICY)
        except FleetCastError as error:
            logger.warning("nothing is done for plan %d now: %s", plan_id, error)
            return False
        return True

    def _verdict(self, plan_id: int) -> Verdict:
        with self.store.reading() as session:
            row = read_plan(session, plan_id)
            return verdict(session, checked_content(row), row, self._probe, self.clock.now())

    def _rehearse(self, plan_id: int, content: PlanContent) -> None:
        """What has to be asked of others before a plan starts. Raises `ConflictError`."""
        if content.mode == "dry_run":
            return
        if (reason := wrong_answer(content.pre_checks, self._probe)) is not None:
            raise ConflictError(f"plan {plan_id} is not begun: {reason}; nothing was done")
        self._actions.rehearse(content)

    def _claimed(self, plan_id: int, by: str, what: Callable[[Work], None]) -> None:
        """Do something for a plan as the one process that does; when all is stopped in between, it stands still."""
        lease = claim(self.store, plan_id, self.settings.takeover_s)
        with Heart(self.store, lease, self.settings.takeover_s) as heart:
            with self.store.reading() as session:
                row = read_plan(session, plan_id)
                work = Work(plan_id, row.hash, checked_content(row), by, heart)
            try:
                what(work)
            except LimitError as error:
                with self.store.session() as session:
                    require_lease(session, lease)
                    row = plan_row(session, plan_id)
                    if row.status == "executing":
                        row.reason = f"stands still: {error}"
                raise

    def _carry_out(self, work: Work) -> None:
        status = self._begin(work)
        reason = self._take_steps(work) if status == "executing" else None
        if reason is not None or status == "rolling_back":
            self._take_back(work, reason)

    def _begin(self, work: Work) -> str:
        now = self.clock.now()
        with self.store.session() as session:
            require_lease(session, work.heart.lease)
            row = plan_row(session, work.plan_id)
            if row.status not in (*control.RUNNING, *THROUGH):
                content = admit(session, work.plan_id, self.settings, now)
                row.status, row.started_at, row.executed_by = "executing", now, work.by
                if not work.dry_run:
                    case = f"plan {work.plan_id}"
                    effects.note_case(session, now, content.playbook, "treated", content.alert_id, case)
                    mitigation.begin(session, content, work.by, now)
                what = "execute plan (dry run)" if work.dry_run else "execute plan"
                audit.record(session, now, work.by, what, str(work.plan_id), row.hash)
            if row.status == "executing":
                row.reason = None
            return row.status

    def _take_steps(self, work: Work) -> str | None:
        """The steps that are left; returns why the plan has to be taken back, if it has."""
        with self.store.reading() as session:
            expires_at = read_plan(session, work.plan_id).expires_at
        for index, step in enumerate(work.content.steps):
            if self.clock.now() >= expires_at:
                return f"it expired before the step {step.name!r}"
            result = self._actions.act(work, "step", index)
            if result.outcome != "done":
                return f"the step {step.name!r} is {result.outcome}: {result.text}"
        now = self.clock.now()
        with self.store.session() as session:
            require_lease(session, work.heart.lease)
            row = plan_row(session, work.plan_id)
            row.executed_at = now
            if work.dry_run:
                row.status, row.ended_at = "executed", now
            else:
                row.status, row.verify_by = "verifying", now + mitigation.time_of_checks(work.content)
        return None

    def _take_back(self, work: Work, reason: str | None) -> None:
        """Take back, last first, the steps that were done or may have been; then count the plan as failed."""
        with self.store.session() as session:
            require_lease(session, work.heart.lease)
            row = plan_row(session, work.plan_id)
            if row.status in ("rolled_back", "failed"):
                return
            if row.status != "rolling_back":
                row.status, row.reason = "rolling_back", reason
                audit.record(session, self.clock.now(), work.by, "roll back plan", str(work.plan_id), reason or "")
            begun = [one.step for one in row.executions if one.kind == "step" and one.outcome != "failed"]
        left = [index for index in begun if work.content.steps[index].undo is None]
        back = sorted(set(begun) - set(left), reverse=True)
        failed = [index for index in back if self._actions.act(work, "undo", index).outcome != "done"]
        now, names = self.clock.now(), [step.name for step in work.content.steps]
        with self.store.session() as session:
            require_lease(session, work.heart.lease)
            row = plan_row(session, work.plan_id)
            row.status, row.ended_at = "failed" if failed else "rolled_back", now
            notes = [f"cannot be taken back: {names[index]}" for index in left]
            notes += [f"was not taken back: {names[index]}" for index in failed]
            row.reason = "; ".join([row.reason or "", *notes])
            mitigation.end(session, work.content, f"plan {work.plan_id} is {row.status}: {row.reason}", now)
            control.count_outcome(session, work.plan_id, False, self.settings, now)
            audit.record(session, now, work.by, f"plan is {row.status}", str(work.plan_id), row.reason)

    def _view(self, plan_id: int) -> PlanView:
        with self.store.reading() as session:
            return plan_view(read_plan(session, plan_id), self.clock.now())
