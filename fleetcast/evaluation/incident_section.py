"""The incident part of a backtest's report: figures of the model and its rivals, horizon by horizon."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from fleetcast.contract.servers import server_ids
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY
from fleetcast.evaluation.figures import Interval
from fleetcast.evaluation.incident_bootstrap import incident_intervals
from fleetcast.evaluation.incident_cases import IncidentCases
from fleetcast.evaluation.incident_scores import (
    alert_scores,
    average_precision,
    brier,
    brier_skill,
    calibration_line,
    reliability,
    threshold_at,
)
from fleetcast.risk.fleet import any_probability
from fleetcast.risk.hysteresis import Held, flaps
from fleetcast.risk.levels import level_codes
from fleetcast.risk.probability import HORIZONS

FALSE_RATE = 0.05
MODEL = "model"
GROUP_SERVERS = 25

Doubles = npt.NDArray[np.float64]


class Bin(BaseModel):
    """A point of the reliability diagram."""

    said: float = Field(description="mean probability")
    came: float = Field(description="share of cases in which an incident began")
    cases: int


class IncidentRow(BaseModel):
    """One forecaster at one horizon. Probabilities are scored only where there are some; None: no such figure."""

    horizon: str
    forecaster: str
    auprc: float | None
    brier: float | None
    brier_skill: float | None = Field(description="against the prevalence of these cases")
    slope: float | None = Field(description="calibration slope; 1 is right")
    intercept: float | None
    threshold: float | None = Field(description="of an alert, at the false alerts per server-day asked for")
    recall: float | None = Field(description="share of events with an alert 15 min ahead or more")
    precision: float | None
    lead_median_s: float | None
    lead_p10_s: float | None
    false_per_server_day: float | None
    auprc_interval: Interval | None = Field(None, description="95 % bootstrap interval over servers")
    brier_skill_interval: Interval | None = Field(None, description="95 % bootstrap interval over servers")
    recall_interval: Interval | None = Field(None, description="the same, the threshold found anew in each draw")


class IncidentScope(BaseModel):
    """What a horizon was scored on."""

    horizon: str
    cases: int
    censored: int
    positives: int
    prevalence: float | None
    events: int = Field(description="distinct incidents with a scored origin 15 min ahead or more")
    server_days: float
    reliability: list[Bin] = Field(description="of the model")
    fleet_groups: int = Field(description="groups of servers that P(at least one) was scored on")
    fleet_said: float | None = Field(description="mean P(at least one) of a group")
    fleet_came: float | None
    fleet_skill: float | None = Field(description="Brier skill of P(at least one)")


class IncidentSection(BaseModel):
    """All incident figures of a backtest."""

    false_rate: float = Field(description="false alerts per server-day at which recall is compared")
    scopes: list[IncidentScope]
    rows: list[IncidentRow]
    source: dict[str, str] = Field(default_factory=dict, description="what made each horizon's probability")
    flaps: float | None = Field(
        None, description="levels left and taken again within an hour, per server-day; None where origins are further"
    )
    flaps_held: float | None = Field(None, description="the same with hysteresis")

    def row(self, horizon: str, forecaster: str = MODEL) -> IncidentRow:
        """The figures of one forecaster at one horizon."""
        return next(row for row in self.rows if (row.horizon, row.forecaster) == (horizon, forecaster))


def incident_section(
    cases: IncidentCases,
    others: dict[str, Doubles] | None = None,
    shared: dict[str, float] | None = None,
    source: dict[str, str] | None = None,
    false_rate: float = FALSE_RATE,
) -> IncidentSection:
    """Score cases. The model comes first, then `others` (probabilities [origin, server, horizon]), then the rivals.

    `shared` are the exponents of P(at least one) by horizon (`risk.fleet`).
    """
    said = {MODEL: cases.probability, **(others or {})}
    scopes, rows = [], []
    for place, name in enumerate(HORIZONS):
        scopes.append(_scope(cases, place, name, (shared or {}).get(name, 1.0)))
        for who, scores in {**said, **cases.rivals}.items():
            rows.append(_row(cases, place, name, who, scores[..., place], who in said, false_rate))
    raw, held = _flaps(cases)
    return IncidentSection(
        false_rate=false_rate, scopes=scopes, rows=rows, source=source or {}, flaps=raw, flaps_held=held
    )


def _flaps(cases: IncidentCases) -> tuple[float | None, float | None]:
    """Flaps per server-day of the levels as they are, and with hysteresis, of origins on the 5-minute grid."""
    if len(cases.origins) < 3 or (np.diff(cases.origins) != STEP_SECONDS).any():
        return None, None
    closed = np.zeros(len(cases.servers), dtype=bool)
    held, raw, kept = Held.start(len(cases.servers)), [], []
    for said in cases.probability:
        held = held.step(said[:, 0], said[:, 2], closed)
        raw.append(level_codes(said[:, 0], said[:, 2], closed))
        kept.append(held.levels)
    days = len(cases.origins) * len(cases.servers) / STEPS_PER_DAY
    return flaps(np.stack(raw)) / days, flaps(np.stack(kept)) / days


def _scope(cases: IncidentCases, place: int, name: str, exponent: float) -> IncidentScope:
    known = ~cases.censored[..., place]
    happened, steps = cases.outcome[..., place], list(HORIZONS.values())[place]
    none = np.zeros_like(known)
    scores = alert_scores(none, cases.ahead, ~known, cases.origins // STEP_SECONDS, steps)
    bins = reliability(cases.probability[..., place][known], happened[known]) if known.any() else []
    sums, hits = _groups(cases, place, exponent)
    return IncidentScope(
        horizon=name,
        cases=int(known.sum()),
        censored=int((~known).sum()),
        positives=int(happened[known].sum()),
        prevalence=_number(float(happened[known].mean())) if known.any() else None,
        events=scores.events,
        server_days=scores.server_days,
        reliability=[Bin(said=p, came=share, cases=count) for p, share, count in bins],
        fleet_groups=len(sums),
        fleet_said=_number(float(sums.mean())) if len(sums) else None,
        fleet_came=_number(float(hits.mean())) if len(sums) else None,
        fleet_skill=_number(brier_skill(sums, hits)) if len(sums) else None,
    )


def _groups(cases: IncidentCases, place: int, exponent: float) -> tuple[Doubles, npt.NDArray[np.bool_]]:
    """P(at least one) and whether one came, of servers `GROUP_SERVERS` at a time.

    Groups are made in the order of the servers' ids, so they do not depend on the order of the servers and mix cells.
    """
    said, came = [], []
    ids = server_ids(cases.servers)
    order = np.argsort([ids[name] for name in cases.servers])
    for origin in range(len(cases.origins)):
        known = order[~cases.censored[origin, order, place]]
        for first in range(0, len(known) - GROUP_SERVERS + 1, GROUP_SERVERS):
            group = known[first : first + GROUP_SERVERS]
            said.append(any_probability(cases.probability[origin, group, place], exponent))
            came.append(bool(cases.outcome[origin, group, place].any()))
    return np.array(said), np.array(came, dtype=bool)


def _row(
    cases: IncidentCases, place: int, name: str, who: str, scores: Doubles, probable: bool, false_rate: float
) -> IncidentRow:
    steps, horizon = cases.origins // STEP_SECONDS, list(HORIZONS.values())[place]
    censored = cases.censored[..., place] | np.isnan(scores)
    said, happened = scores[~censored], cases.outcome[..., place][~censored]
    slope, intercept = calibration_line(said, happened) if probable else (np.nan, np.nan)
    threshold = threshold_at(scores, cases.ahead, censored, steps, horizon, false_rate)
    alerts = np.nan_to_num(scores, nan=-np.inf) >= threshold
    found = alert_scores(alerts, cases.ahead, censored, steps, horizon)
    leads = found.leads
    by_name = np.argsort(np.array(cases.servers, dtype=object), kind="stable")  # draws do not depend on the order
    intervals = incident_intervals(
        scores[:, by_name], cases.ahead[:, by_name], censored[:, by_name], steps, horizon, false_rate, threshold
    )
    return IncidentRow(
        horizon=name,
        forecaster=who,
        auprc=_number(average_precision(said, happened)),
        brier=_number(brier(said, happened)) if probable and len(said) else None,
        brier_skill=_number(brier_skill(said, happened)) if probable and len(said) else None,
        slope=_number(slope),
        intercept=_number(intercept),
        threshold=_number(threshold),
        recall=_number(found.recall),
        precision=_number(found.precision),
        lead_median_s=float(np.median(leads)) if len(leads) else None,
        lead_p10_s=float(np.quantile(leads, 0.1)) if len(leads) else None,
        false_per_server_day=_number(found.false_rate),
        auprc_interval=intervals.auprc,
        brier_skill_interval=intervals.brier_skill if probable else None,
        recall_interval=intervals.recall,
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
