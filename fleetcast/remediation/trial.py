"""What a closed-loop trial counted, and how sure that is.

The same seeds are simulated twice: left alone, and acted on. A case is an incident that was acted on; it would have
come when, left alone, the server has an onset within `CASE` after the action. The interval is the central 90 % of a
bootstrap over cells (groups of servers that depend on one another, of each seed), since servers of a cell share their
fate and cells do not (B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from fleetcast.remediation.effects import EffectEstimate, estimate_share, note_trial

CASE = timedelta(hours=8)
DRAWS = 10_000
SEED = 20260105
INTERVAL = (0.05, 0.95)


@dataclass(frozen=True)
class ServerCount:
    """Incidents of one server of one seed in both runs; `cell` tells cells of all seeds apart."""

    cell: str
    held_out: bool
    without: int
    acted: int


@dataclass(frozen=True)
class Case:
    """An incident that was acted on, and whether one came within `CASE`: in the run left alone, and in this one."""

    cell: str
    playbook: str
    came_without: bool
    came_acted: bool


class Interval(BaseModel):
    """A figure with its 90 % interval; None when there is nothing to divide by."""

    model_config = ConfigDict(frozen=True)

    value: float | None
    low: float | None
    high: float | None


class TrialReport(BaseModel):
    """Measured effect of remediation on simulated fleets."""

    model_config = ConfigDict(frozen=True)

    detector: str
    seeds: list[int]
    servers: int
    hours: float
    every_minutes: int
    holdout_share: float
    servers_acted_on: int = Field(description="servers of all seeds that may be acted on")
    incidents_without: int = Field(description="their incidents, left alone")
    incidents_acted: int = Field(description="their incidents with remediation")
    avoided: Interval = Field(description="incidents avoided")
    avoided_share: Interval = Field(description="of those that come when the fleet is left alone")
    held_out_servers: int
    held_out_without: int
    held_out_acted: int = Field(description="differs from the one before only through servers that others depend on")
    plans: int = Field(description="plans that were carried out")
    refused: int = Field(description="plans that a limit or a check kept from being carried out")
    false_actions: Interval = Field(description="share of plans without an incident to come")
    playbooks: dict[str, EffectEstimate | None]


def make_report(
    setup: dict[str, object], counts: Sequence[ServerCount], cases: Sequence[Case], refused: int
) -> TrialReport:
    """The report; `setup` are the fields that say what was tried."""
    acted = [one for one in counts if not one.held_out]
    held = [one for one in counts if one.held_out]
    sums = _sums(acted, cases)
    without, with_, plans, false = (float(value) for value in sums.sum(axis=0))
    draws = _draws(sums)
    names = sorted({case.playbook for case in cases})
    return TrialReport.model_validate(
        {
            **setup,
            "servers_acted_on": len(acted),
            "incidents_without": int(without),
            "incidents_acted": int(with_),
            "avoided": _interval(without - with_, draws[:, 0] - draws[:, 1]),
            "avoided_share": _ratio(without - with_, without, draws[:, 0] - draws[:, 1], draws[:, 0]),
            "held_out_servers": len(held),
            "held_out_without": sum(one.without for one in held),
            "held_out_acted": sum(one.acted for one in held),
            "plans": int(plans),
            "refused": refused,
            "false_actions": _ratio(false, plans, draws[:, 3], draws[:, 2]),
            "playbooks": {name: _effect([case for case in cases if case.playbook == name]) for name in names},
        }
    )


def keep(session: Session, now: datetime, cases: Sequence[Case], what: str) -> None:
    """Keep what was counted, so that plans are estimated from it; `what` names the trial."""
    for name in sorted({case.playbook for case in cases}):
        own = [case for case in cases if case.playbook == name]
        note_trial(session, now, name, "treated", len(own), sum(case.came_acted for case in own), what)
        note_trial(session, now, name, "control", len(own), sum(case.came_without for case in own), what)


def _effect(cases: Sequence[Case]) -> EffectEstimate | None:
    came = sum(case.came_acted for case in cases), sum(case.came_without for case in cases)
    return estimate_share((len(cases), came[0]), (len(cases), came[1]))


def _sums(counts: Sequence[ServerCount], cases: Sequence[Case]) -> npt.NDArray[np.float64]:
    """[cell, (incidents without, incidents acted, plans, false plans)]."""
    cells = {name: row for row, name in enumerate(sorted({one.cell for one in counts} | {one.cell for one in cases}))}
    sums = np.zeros((max(1, len(cells)), 4))
    for one in counts:
        sums[cells[one.cell], :2] += one.without, one.acted
    for case in cases:
        sums[cells[case.cell], 2:] += 1, not case.came_without
    return sums


def _draws(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sums over cells that are drawn with replacement, `DRAWS` times."""
    cells = len(sums)
    weights = np.random.default_rng(SEED).multinomial(cells, np.full(cells, 1 / cells), size=DRAWS)
    return np.asarray(weights @ sums)


def _interval(value: float, draws: npt.NDArray[np.float64]) -> Interval:
    low, high = (float(edge) for edge in np.quantile(draws, INTERVAL))
    return Interval(value=value, low=low, high=high)


def _ratio(
    above: float, below: float, draws_above: npt.NDArray[np.float64], draws_below: npt.NDArray[np.float64]
) -> Interval:
    some = draws_below > 0
    if not below or not some.any():
        return Interval(value=None, low=None, high=None)
    return _interval(above / below, draws_above[some] / draws_below[some])
