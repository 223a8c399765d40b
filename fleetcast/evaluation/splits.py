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


@dataclass(frozen=True)
class Origins:
    """Rolling origins on a time axis of `steps` steps that begins at `start` (Unix seconds), for any of its servers."""

    start: int
    steps: int
    positions: tuple[int, ...]
    horizon: int
    stride: int
    purge: int

    @property
    def times(self) -> tuple[datetime, ...]:
        """The origins, UTC, ascending."""
        return tuple(_time(self.start, position) for position in self.positions)

    def windows(self, fleet: FleetArrays) -> tuple[Window, ...]:
        """A window of the fleet for each origin. Raises `EvaluationError` when it lies on another time axis."""
        if (fleet.start, fleet.steps) != (self.start, self.steps):
            raise EvaluationError(f"a fleet of {fleet.steps} steps was given where the origins are of {self.steps}")
        return tuple(Window(fleet, position, self.horizon) for position in self.positions)


def rolling_origins(
    start: int,
    steps: int,
    horizon: int,
    windows: int | None,
    stride: int | None,
    cutoff: datetime,
    purge: int | None = None,
    label_steps: int = 0,
) -> Origins:
    """The last `windows` origins at distance `stride`, in time order; the last horizon ends with the data.

    Args:
        start: Unix seconds of the first step of the data.
        steps: length of the data.
        horizon: steps ahead that are scored.
        windows: number of origins; None is as many as fit.
        stride: steps between origins; None is the horizon, so that no truth is scored twice.
        cutoff: last time stamp that anything fitted has read, labels included.
        purge: steps between the last origin that was fitted on (`cutoff` - horizon - label_steps) and the first one
            here; at least, and by default, horizon + label_steps: then the first origin may be the cutoff itself.
        label_steps: steps after an outcome that it takes to know it; 0 for values, which are known at once.

    Raises:
        LeakageError: the purge gap is too small, or the first origin lies within it.
        EvaluationError: the data is too short.
        UsageError: counts below 1.
    """
    distance = horizon if stride is None else stride
    if distance < 1 or (windows is not None and windows < 1):
        raise UsageError(f"windows and stride must be at least 1, found {windows} and {stride}")
    least = horizon + label_steps
    gap = least if purge is None else purge
    if gap < least:
        raise LeakageError(
            f"the purge gap is {gap} steps; it must be at least the horizon ({horizon}) and the label window "
            f"({label_steps}), {least} steps, or a truth would be scored that was fitted on"
        )
    last = steps - 1 - horizon
    allowed = _cut(start, cutoff) + gap - least
    fit = max(0, (last - max(0, allowed)) // distance + 1)
    count = windows if windows is not None else max(fit, 1)
    first = last - (count - 1) * distance
    if fit < count:
        advice = f"ask for at most {fit} windows" if fit else "bring later data"
        if first < 0:
            raise EvaluationError(
                f"{count} windows of {horizon} steps at a stride of {distance} need "
                f"{horizon + 1 + (count - 1) * distance} steps, the data has {steps}; {fit} would fit after the "
                f"model's cutoff ({_text(cutoff)}): {advice}"
            )
        raise LeakageError(
            f"the first of {count} windows would start at {_text(_time(start, first))}, but the model has seen data up "
            f"to {_text(cutoff)} and the purge gap after the last origin that it was fitted on is {gap} steps "
            f"({timedelta(seconds=gap * STEP_SECONDS)}): the first origin allowed is {_text(_time(start, allowed))}. "
            f"{fit} windows would fit at a stride of {distance} steps: {advice}, or train with an earlier cutoff"
        )
    return Origins(start, steps, tuple(first + number * distance for number in range(count)), horizon, distance, gap)


def rolling_windows(
    fleet: FleetArrays,
    horizon: int,
    windows: int | None,
    stride: int | None,
    cutoff: datetime,
    purge: int | None = None,
) -> tuple[Window, ...]:
    """The windows of a fleet in memory at its `rolling_origins`; raises what that does."""
    return rolling_origins(fleet.start, fleet.steps, horizon, windows, stride, cutoff, purge).windows(fleet)


def _cut(start: int, cutoff: datetime) -> int:
    """Position of the first step at or after the cutoff."""
    return -(-(int(cutoff.timestamp()) - start) // STEP_SECONDS)


def _time(start: int, position: int) -> datetime:
    return datetime.fromtimestamp(start + STEP_SECONDS * position, UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
