"""Rolling windows at the end of a fleet, with the input and the truth behind different doors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import EvaluationError, LeakageError, UsageError
from fleetcast.windows.arrays import FleetArrays


@dataclass(frozen=True)
class Window:
    """One origin: a forecaster is given `input()`, and only the scoring looks at `truth()`."""

    _fleet: FleetArrays
    index: int
    horizon: int

    @property
    def origin(self) -> datetime:
        """Time of the last known step, UTC."""
        return self._fleet.time_at(self.index)

    def input(self) -> FleetArrays:
        """The fleet up to the origin, inclusive."""
        return self._fleet.until(self.index)

    def truth(self, metrics: Sequence[str]) -> npt.NDArray[np.float32]:
        """What came in the `horizon` steps after the origin, [server, metric, step]; NaN where no sample came."""
        ahead = self._fleet.select(metrics)[:, self.index + 1 : self.index + 1 + self.horizon]
        return ahead.transpose(0, 2, 1)


def rolling_windows(
    fleet: FleetArrays, horizon: int, windows: int, stride: int, cutoff: datetime
) -> tuple[Window, ...]:
    """The last `windows` origins at distance `stride` steps, in time order; the last horizon ends with the data.

    Raises `LeakageError` when the first origin lies before `cutoff` plus a gap of one horizon, `EvaluationError` when
    the data is too short, `UsageError` for counts below 1.
    """
    if windows < 1 or stride < 1:
        raise UsageError(f"windows and stride must be at least 1, found {windows} and {stride}")
    last = fleet.steps - 1 - horizon
    first = last - (windows - 1) * stride
    allowed = max(0, _first_allowed(fleet, cutoff, horizon))
    fit = max(0, (last - allowed) // stride + 1)
    if fit >= windows:
        return tuple(Window(fleet, first + number * stride, horizon) for number in range(windows))
    advice = f"ask for at most {fit} windows" if fit else "bring later data"
    if first < 0:
        raise EvaluationError(
            f"{windows} windows of {horizon} steps at a stride of {stride} need {horizon + 1 + (windows - 1) * stride} "
            f"steps, the data has {fleet.steps}; {fit} would fit after the model's cutoff ({_text(cutoff)}): {advice}"
        )
    gap = timedelta(seconds=horizon * STEP_SECONDS)
    raise LeakageError(
        f"the first of {windows} windows would start at {_text(fleet.time_at(first))}, but the model has seen data up "
        f"to {_text(cutoff)} and the gap is one horizon ({horizon} steps, {gap}): the first origin allowed is "
        f"{_text(cutoff + gap)}. {fit} windows would fit at a stride of {stride} steps: {advice}, or train with an "
        f"earlier cutoff"
    )


def _first_allowed(fleet: FleetArrays, cutoff: datetime, horizon: int) -> int:
    """Position of the first origin at or after the cutoff plus one horizon."""
    seconds = int(cutoff.timestamp()) - fleet.start
    return -(-seconds // STEP_SECONDS) + horizon


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
