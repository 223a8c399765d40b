"""A simulated fleet as an executor: what is done to it is kept in order, and the simulation takes each up once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleetcast.clock import Clock
from fleetcast.errors import ConflictError
from fleetcast.remediation.calls import Call, SimulatorCall, in_words
from fleetcast.remediation.executor import Result
from fleetcast.simulate.actions import Action
from fleetcast.store.engine import Store
from fleetcast.store.tables_remediation import SimulatedActionTable

if TYPE_CHECKING:
    from fleetcast.simulate.live import LiveFleet  # compiles: what only holds actions starts without it


class SimulatedAction(BaseModel):
    """Something that is done to a simulated server; `id` grows."""

    model_config = ConfigDict(frozen=True)

    id: int
    at: datetime
    server: str
    action: str
    value: float


class SimulatedExecutor:
    """Writes down what is done, once for an action's id."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def rehearse(self, call: Call) -> str:
        """The call in words. Raises `ConflictError` for one that is not of a simulated fleet."""
        if not isinstance(call, SimulatorCall):
            raise ConflictError(f"{in_words(call)} is not something that a simulated fleet can do")
        return in_words(call)

    def perform(self, action_id: str, call: Call, undoes: str | None = None) -> Result:
        """Write it down."""
        assert isinstance(call, SimulatorCall)
        with self._store.session() as session:
            known = select(SimulatedActionTable.id).where(SimulatedActionTable.action_id == action_id)
            if session.scalars(known).first() is None:
                session.add(
                    SimulatedActionTable(
                        action_id=action_id, at=self._clock.now(), server=call.server, action=call.action,
                        value=call.value,
                    )
                )  # fmt: skip
        return Result("done", in_words(call))

    def recover(self, action_id: str, call: Call) -> Result | None:
        """Writing it down again repeats nothing."""
        return None


def actions_after(session: Session, last: int) -> list[SimulatedAction]:
    """What was done after the action with the id `last`, in order."""
    query = select(SimulatedActionTable).where(SimulatedActionTable.id > last).order_by(SimulatedActionTable.id)
    return [SimulatedAction.model_validate(row, from_attributes=True) for row in session.scalars(query)]


def apply(live: LiveFleet, actions: Iterable[SimulatedAction], not_before: datetime | None = None) -> None:
    """Let a fleet feel what was done, each at its time or at `not_before`, whichever is later.

    Raises `UsageError` for a server that the fleet does not have.
    """
    for one in actions:
        at = one.at if not_before is None else max(one.at, not_before)
        live.act(Action[one.action.upper()], [one.server], at, one.value)
