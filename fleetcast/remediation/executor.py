"""How a step is carried out: a port of one method, and the dry run, which does nothing and says so."""

from __future__ import annotations

from typing import Protocol

from fleetcast.remediation.plan import PlannedStep


class Executor(Protocol):
    """Carries out steps."""

    dry_run: bool

    def perform(self, action_id: str, step: PlannedStep) -> str:
        """Carry out a step once for an action id, and say what was done.

        It is called again with the same id after a crash; the second call must not repeat the effect.
        """


class DryRunExecutor:
    """Does nothing; says what would have been done."""

    dry_run = True

    def perform(self, action_id: str, step: PlannedStep) -> str:
        """What the step would have done."""
        return would_have(step)


def would_have(step: PlannedStep) -> str:
    """A step that is not carried out, in words."""
    return f"would have {step.done}"
