"""How a step is carried out: a small port, one adapter a file. The dry run needs none: it does nothing and says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from fleetcast.remediation.calls import Call

Outcome = Literal["done", "failed", "unknown"]


@dataclass(frozen=True)
class Result:
    """What came of an action; `unknown` when nobody can say whether it was carried out."""

    outcome: Outcome
    text: str


class Executor(Protocol):
    """Carries out calls of one kind."""

    def rehearse(self, call: Call) -> str:
        """Check all that can be checked without changing anything, and say what would be done.

        Raises `ConflictError` when the call is not allowed or its target does not take it.
        """

    def perform(self, action_id: str, call: Call, undoes: str | None = None) -> Result:
        """Carry out a call once. It does not raise for what goes wrong at the target: that is a result.

        `undoes` is the id of the action that this one takes back, which may not have been carried out.
        """

    def recover(self, action_id: str, call: Call) -> Result | None:
        """What became of an action whose process ended before it could say; changes nothing.

        None: it was not carried out, or performing it again under the same id does not repeat it.
        """


def would_have(done: str) -> str:
    """A step that is not carried out, in words."""
    return f"would have {done}"
