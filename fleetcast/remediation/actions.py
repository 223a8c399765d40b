"""One action of a plan: recorded before it and after it, under an id of its own, never done twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from fleetcast.clock import Clock
from fleetcast.errors import ConflictError
from fleetcast.remediation import control
from fleetcast.remediation.calls import Call
from fleetcast.remediation.claim import Heart
from fleetcast.remediation.executor import Executor, Outcome, Result, would_have
from fleetcast.remediation.plan import PlanContent, PlannedStep, action_id
from fleetcast.store import audit
from fleetcast.store.engine import Store
from fleetcast.store.leases import require_lease
from fleetcast.store.tables_remediation import ExecutionTable

Kind = Literal["step", "undo"]


@dataclass(frozen=True)
class Work:
    """A plan under way: what it says, who has it carried out, and the lease under which this process does."""

    plan_id: int
    plan_hash: str
    content: PlanContent
    by: str
    heart: Heart

    @property
    def dry_run(self) -> bool:
        """Whether nothing is done."""
        return self.content.mode == "dry_run"


class Actions:
    """Performs actions with the executors of their calls."""

    def __init__(self, store: Store, clock: Clock, executors: Mapping[str, Executor]) -> None:
        self._store, self._clock, self._executors = store, clock, executors

    def rehearse(self, content: PlanContent) -> None:
        """Rehearse every call of a plan, and what takes it back. Raises `ConflictError`."""
        for step in content.steps:
            for call in (step.call, step.undo):
                if call is not None:
                    self._executor(call).rehearse(call)

    def act(self, work: Work, kind: Kind, index: int) -> Result:
        """Perform a step or take it back.

        Found started and not finished, its executor is asked what became of it. Raises `LeaseLostError` when another
        process has taken over and `LimitError` when all is stopped.
        """
        key = action_id(work.plan_id, work.plan_hash, index, kind)
        step = work.content.steps[index]
        known = self._started(work, key, kind, index, step)
        if isinstance(known, Result):
            return known
        result = self._perform(work, key, index, kind, interrupted=known)
        self._finished(work, key, f"{kind} {index} of plan {work.plan_id}", result)
        return result

    def _started(self, work: Work, key: str, kind: Kind, index: int, step: PlannedStep) -> Result | bool:
        """Record the start; the result when it is finished already, else whether it was started before."""
        with self._store.session() as session:
            work.heart.beat(session)
            found = session.get(ExecutionTable, key)
            if found is not None and found.finished_at is not None:
                return Result(cast("Outcome", found.outcome), found.result or "")
            control.require_running(session)
            if found is None:
                session.add(
                    ExecutionTable(
                        action_id=key, plan_id=work.plan_id, kind=kind, step=index, server=step.server, by=work.by,
                        started_at=self._clock.now(),
                    )
                )  # fmt: skip
            return found is not None

    def _finished(self, work: Work, key: str, what: str, result: Result) -> None:
        now = self._clock.now()
        with self._store.session() as session:
            require_lease(session, work.heart.lease)
            row = session.get_one(ExecutionTable, key)
            row.finished_at, row.outcome, row.result = now, result.outcome, result.text
            if not work.dry_run:
                audit.record(session, now, work.by, f"action {result.outcome}", what, key)

    def _perform(self, work: Work, key: str, index: int, kind: Kind, interrupted: bool) -> Result:
        step = work.content.steps[index]
        call = step.call if kind == "step" else step.undo
        if work.dry_run:
            return Result("done", would_have(step.done))
        if call is None:
            return Result("done", f"nothing to do for {step.name!r} in the mode {work.content.mode}")
        executor = self._executor(call)
        if interrupted and (known := executor.recover(key, call)) is not None:
            return known
        work.heart.require()
        undoes = action_id(work.plan_id, work.plan_hash, index) if kind == "undo" else None
        return executor.perform(key, call, undoes)

    def _executor(self, call: Call) -> Executor:
        found = self._executors.get(call.executor)
        if found is None:
            raise ConflictError(f"there is no executor for {call.executor}: set it up (settings of remediation)")
        return found
