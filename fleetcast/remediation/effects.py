"""What past executions and trials say about the effect of a playbook.

The forecaster has no input for an action, so the effect of a plan is not forecast: it is estimated from what came of
cases that were acted on (treated) and of cases that were not (control). With k_t incidents in n_t treated and k_c in
n_c control cases, the rates have the posteriors Beta(k + 1/2, n - k + 1/2) (Jeffreys' prior), and the prevented share
is 1 - r_t / r_c. The estimate is the median of draws of it (fixed seed), the interval its central 90 %.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleetcast.alerting.lifecycle import OVER
from fleetcast.store.tables import AlertTable
from fleetcast.store.tables_remediation import EffectTable, PlanTable

DRAWS = 20_000
SEED = 20260105
INTERVAL = (0.05, 0.5, 0.95)

Arm = Literal["treated", "control"]
Source = Literal["execution", "trial"]


class EffectEstimate(BaseModel):
    """The share of incidents that a playbook prevents: an estimate, with a 90 % interval."""

    model_config = ConfigDict(frozen=True)

    prevented: float
    low: float
    high: float
    treated: int = Field(description="cases that were acted on")
    treated_incidents: int
    control: int = Field(description="cases that were left alone")
    control_incidents: int


def estimate_share(treated: tuple[int, int], control: tuple[int, int]) -> EffectEstimate | None:
    """The estimate from (cases, incidents) of both arms.

    None when an arm has no case, or no incident came in those left alone: then there was nothing to prevent.
    """
    if not treated[0] or not control[0] or not control[1]:
        return None
    draws = np.random.default_rng(SEED)
    acted, left = (draws.beta(hit + 0.5, cases - hit + 0.5, DRAWS) for cases, hit in (treated, control))
    low, middle, high = (float(value) for value in np.quantile(1 - acted / left, INTERVAL))
    return EffectEstimate(
        prevented=middle, low=low, high=high, treated=treated[0], treated_incidents=treated[1],
        control=control[0], control_incidents=control[1],
    )  # fmt: skip


def estimate(session: Session, playbook: str) -> EffectEstimate | None:
    """The estimate of a playbook from everything that is known so far; None as `estimate_share` says."""
    return estimates(session).get(playbook)


def estimates(session: Session) -> dict[str, EffectEstimate]:
    """The estimates of all playbooks of which enough is known."""
    cases, incidents = func.sum(EffectTable.cases), func.sum(EffectTable.incidents)
    query = select(EffectTable.playbook, EffectTable.arm, cases, incidents)
    query = query.where(EffectTable.incidents.is_not(None)).group_by(EffectTable.playbook, EffectTable.arm)
    sums = {(name, arm): (int(count or 0), int(hits or 0)) for name, arm, count, hits in session.execute(query)}
    found = {
        name: estimate_share(sums.get((name, "treated"), (0, 0)), sums.get((name, "control"), (0, 0)))
        for name in sorted({name for name, _ in sums})
    }
    return {name: one for name, one in found.items() if one is not None}


def in_words(found: EffectEstimate | None) -> str:
    """The estimate for people; it says what it rests on."""
    if found is None:
        return "its effect has not been measured yet"
    low = "less than -100%" if found.low < -1 else f"{found.low:.0%}"
    return (
        f"estimate: prevents {found.prevented:.0%} of incidents (90 % between {low} and {found.high:.0%}), "
        f"from {found.treated} cases acted on and {found.control} left alone"
    )


def note_trial(session: Session, at: datetime, playbook: str, arm: Arm, cases: int, incidents: int, what: str) -> None:
    """Keep what a closed-loop trial counted."""
    session.add(
        EffectTable(
            at=at, playbook=playbook, source="trial", arm=arm, cases=cases, incidents=incidents, detail=what
        )
    )  # fmt: skip


def note_case(session: Session, at: datetime, playbook: str, arm: Arm, alert_id: int, what: str) -> None:
    """Keep that the incident of an alert is acted on, or left alone; what comes of it is counted when it is over."""
    known = session.scalars(select(EffectTable.id).where(EffectTable.alert_id == alert_id)).first()
    if known is None:
        session.add(
            EffectTable(at=at, playbook=playbook, source="execution", arm=arm, alert_id=alert_id, cases=1, detail=what)
        )


def settle(session: Session) -> int:
    """Count what came of cases whose alerts are over; returns how many. An incident is one that was observed.

    One that was observed before the action began is no evidence of what the action does, and is dropped.
    """
    first = select(func.min(PlanTable.started_at)).where(PlanTable.alert_id == AlertTable.id).scalar_subquery()
    query = (
        select(EffectTable, AlertTable, first)
        .join(AlertTable, AlertTable.id == EffectTable.alert_id)
        .where(EffectTable.incidents.is_(None), AlertTable.state.in_(OVER))
    )
    found = session.execute(query).all()
    for effect, alert, started_at in found:
        begun = started_at if effect.arm == "treated" and started_at is not None else effect.at
        if alert.confirmed_at is not None and alert.confirmed_at < begun:
            session.delete(effect)
        else:
            effect.incidents = int(alert.confirmed_at is not None)
    return len(found)
