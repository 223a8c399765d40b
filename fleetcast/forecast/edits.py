"""Edits of a server's past samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.errors import UsageError
from fleetcast.windows.arrays import FleetArrays

Floats = npt.NDArray[np.float32]
Named = Literal["day_before", "median", "usual"]


class Shift(BaseModel):
    """So much is added to each sample, which stays within the metric's hard range."""

    model_config = ConfigDict(frozen=True)

    by: float = Field(description="in the metric's unit")


class Edit(BaseModel):
    """Samples of one metric, from `first` to `last` inclusive, replaced; a step without a sample stays without.

    `to` is a value in the metric's unit, a `Shift`, or one of

    - `day_before`: the sample 24 h earlier;
    - `median`: the median of the history before `first`;
    - `usual`: the median of the same time of day on the days before `first`, or else the median.

    Where that does not exist (nothing came a day before) the sample stays.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    first: datetime = Field(description="with a time zone, on the 5-minute grid")
    last: datetime = Field(description="with a time zone, on the 5-minute grid")
    to: Named | float | Shift


def apply_edits(history: FleetArrays, edits: Sequence[Edit], origin: datetime) -> Floats:
    """Values [1, time, metric] of a server's history (`Forecaster.history`) with the edits made.

    Each edit looks at the samples as they came; where two meet the last one holds. Raises `UsageError` for an edit
    after the origin, before the history, of a metric that there is not, or to a value outside its hard range.
    """
    values = history.values.copy()
    for edit in edits:
        begin, end = _steps(history, edit, origin)
        column = history.metrics.index(edit.metric)
        series = history.values[0, :, column]
        level = _shifted(series[begin:end], edit) if isinstance(edit.to, Shift) else _level(series, begin, end, edit.to)
        kept = np.isnan(series[begin:end]) | np.isnan(level)
        values[0, begin:end, column] = np.where(kept, series[begin:end], level)
    return values


def _steps(history: FleetArrays, edit: Edit, origin: datetime) -> tuple[int, int]:
    """First step of an edit and the one after its last, checked."""
    if edit.metric not in history.metrics:
        raise UsageError(f"cannot edit {edit.metric}: the data has {', '.join(history.metrics)}")
    if edit.first.tzinfo is None or edit.last.tzinfo is None:
        raise UsageError(f"the edit of {edit.metric} has a time without a time zone")
    if edit.last > origin:
        raise UsageError(
            f"the edit of {edit.metric} ends at {edit.last.isoformat()}, after the origin {origin.isoformat()}: "
            "only the past can have been otherwise"
        )
    low, high = contract_metric(edit.metric).hard
    if isinstance(edit.to, Shift) and not math.isfinite(edit.to.by):
        raise UsageError(f"{edit.metric} cannot be moved by {edit.to.by:g}")
    if isinstance(edit.to, float) and not (math.isfinite(edit.to) and low <= edit.to <= high):
        raise UsageError(f"{edit.metric} cannot be {edit.to:g}: the contract has {low:g} to {high:g}")
    begin, end = history.index_of(edit.first), history.index_of(edit.last) + 1
    if begin >= end:
        raise UsageError(f"the edit of {edit.metric} ends before it begins")
    if begin < 0:
        raise UsageError(
            f"the edit of {edit.metric} begins before {history.time_at(0).isoformat()}, the first step that a forecast "
            f"from {origin.isoformat()} reads"
        )
    return begin, end


def _shifted(samples: Floats, edit: Edit) -> Floats:
    """Samples moved by the edit's shift, within the metric's hard range."""
    assert isinstance(edit.to, Shift)
    low, high = contract_metric(edit.metric).hard
    return np.asarray(np.clip(samples + np.float32(edit.to.by), low, high), np.float32)


def _level(series: Floats, begin: int, end: int, to: str | float) -> Floats:
    """What the steps begin..end-1 of a series [time] are replaced with; NaN where there is nothing."""
    if not isinstance(to, str):
        return np.full(end - begin, to, np.float32)
    if to == "day_before":
        return _earlier(series, np.arange(begin, end) - STEPS_PER_DAY)
    known = series[:begin][~np.isnan(series[:begin])]
    median = np.full(end - begin, np.median(known) if len(known) else np.nan, np.float32)
    if to == "median":
        return median
    shifts = STEPS_PER_DAY * np.arange(1, -(-len(series) // STEPS_PER_DAY) + 1)
    places = np.arange(begin, end)[:, None] - shifts
    slots = np.where(places < begin, _earlier(series, places), np.nan)
    some = ~np.isnan(slots).all(axis=1)
    median[some] = np.nanmedian(slots[some], axis=1)
    return median


def _earlier(series: Floats, places: npt.NDArray[np.int64]) -> Floats:
    """The series at these steps, NaN before its axis begins."""
    return np.where(places >= 0, series[np.maximum(places, 0)], np.float32(np.nan)).astype(np.float32)
