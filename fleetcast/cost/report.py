"""The cost report: what avoided incidents would have been worth, with the assumptions behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from fleetcast.cost.assumptions import load_assumptions
from fleetcast.cost.incidents import distinct_incidents
from fleetcast.cost.saving import Case, Saving, expected_saving
from fleetcast.remediation.effects import EffectEstimate, estimates, in_words
from fleetcast.settings import CostSettings
from fleetcast.store.cycles import ALERTING, observed
from fleetcast.store.engine import Store
from fleetcast.store.tables import AlertTable
from fleetcast.store.tables_remediation import PlanTable

DAYS_A_MONTH, DAYS_A_YEAR = 30, 365
SHORT_HOURS = 24.0
ACTED = (PlanTable.mode == "live", PlanTable.started_at.is_not(None))


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Estimate(_View):
    """An expected saving in US dollars with a 90 % interval."""

    expected: float
    low: float
    high: float


class AssumptionsView(_View):
    """The assumptions in force and who set them when."""

    values: CostSettings
    author: str = Field(description='"settings" until somebody saves other values')
    at: datetime | None = Field(description="None until somebody saves other values")


class ProfileSaving(_View):
    """The part of one profile."""

    profile: str
    incidents: int
    expected_incidents: float
    avoided_usd: float
    net_usd: float


class CostReport(_View):
    """Value of the incidents that were forecast, each counted once; US dollars."""

    currency: str = "USD"
    now: datetime
    since: datetime | None = Field(description="first observed cycle; None before it")
    observed_hours: float
    incidents: int = Field(description="distinct forecast incidents behind the alerts that opened; dependants left out")
    seen_late: int = Field(description="incidents that were open when first seen: nothing to prevent")
    expected_incidents: float = Field(description="sum of the calibrated probabilities")
    confirmed: int = Field(description="forecast incidents that were then observed")
    passed: int = Field(description="resolved without an incident being observed")
    profiles: list[ProfileSaving] = Field(description="profiles with a forecast incident, the most valuable first")
    avoided_usd: float = Field(ge=0, description="sum of P(incident) x P(prevented) x cost of an incident")
    false_alarms_usd: float = Field(ge=0)
    actions_usd: float = Field(ge=0)
    net_usd: float = Field(description="avoided less false alarms and actions, over the observed time")
    day: Estimate | None = Field(description="None when there is nothing to estimate from; `notes` says why")
    month: Estimate | None = Field(description="30 days")
    year: Estimate | None = Field(description="365 days")
    payback_months: float | None = Field(description="None when the saving never pays the project back")
    assumptions: AssumptionsView
    shadow: bool = Field(description="nothing was done on machines: the figures say what would have been saved")
    notes: list[str]


def cost_report(store: Store, defaults: CostSettings, now: datetime) -> CostReport:
    """The report at `now` over all alerts in the store; `defaults` are the assumptions until somebody saves others."""
    with store.reading() as session:
        assumptions = load_assumptions(session, defaults)
        span = observed(session, ALERTING)
        acted = session.scalars(select(PlanTable.id).where(*ACTED).limit(1)).first() is not None
        query = select(AlertTable).where(AlertTable.opened_at.is_not(None))
        if span is not None:  # one that is kept for its plan may be older than the record of all
            query = query.where(AlertTable.updated_at >= span.first_at)
        alerts = session.scalars(query).all()
        measured = estimates(session)
    incidents = distinct_incidents(alerts)
    forecast = [incident for incident in incidents if incident.probability is not None]
    cases = [(one.profile, one.probability) for one in forecast if one.probability is not None]
    saving = expected_saving(cases, assumptions.values)
    hours = max(0.0, (now - span.first_at).total_seconds() / 3600) if span else 0.0
    day = _scaled(saving, 24 / hours) if hours > 0 and forecast else None
    month = _scaled(saving, DAYS_A_MONTH * 24 / hours) if day else None
    return CostReport(
        now=now,
        since=span.first_at if span else None,
        observed_hours=hours,
        incidents=len(forecast),
        seen_late=len(incidents) - len(forecast),
        expected_incidents=sum(chance for _, chance in cases),
        confirmed=sum(incident.confirmed for incident in forecast),
        passed=sum(incident.over_at is not None and not incident.confirmed for incident in forecast),
        profiles=_profiles(cases, assumptions.values),
        avoided_usd=saving.avoided,
        false_alarms_usd=saving.false_alarms,
        actions_usd=saving.actions,
        net_usd=saving.net,
        day=day,
        month=month,
        year=_scaled(saving, DAYS_A_YEAR * 24 / hours) if day else None,
        payback_months=assumptions.values.project_usd / month.expected if month and month.expected > 0 else None,
        assumptions=AssumptionsView(values=assumptions.values, author=assumptions.author, at=assumptions.at),
        shadow=not acted,
        notes=[*_notes(hours, cases, assumptions.values, acted), *_measured(cases, assumptions.values, measured)],
    )


def _scaled(saving: Saving, factor: float) -> Estimate:
    return Estimate(expected=saving.net * factor, low=saving.low * factor, high=saving.high * factor)


def _profiles(cases: Sequence[Case], values: CostSettings) -> list[ProfileSaving]:
    found = []
    for profile in {name for name, _ in cases}:
        own = [case for case in cases if case[0] == profile]
        saving = expected_saving(own, values)
        found.append(
            ProfileSaving(
                profile=profile, incidents=len(own), expected_incidents=sum(chance for _, chance in own),
                avoided_usd=saving.avoided, net_usd=saving.net,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-one.net_usd, one.profile))


def _notes(hours: float, cases: Sequence[Case], values: CostSettings, acted: bool) -> list[str]:
    """What a reader has to know before believing the figures."""
    notes = [
        "Plans were carried out for a part of the incidents; the figures still rest on the assumptions shown."
        if acted
        else "Nothing was done: the figures say what would have been saved. They rest on the assumptions shown.",
        "The interval holds for other spans like the one observed; it does not hold for wrong assumptions.",
    ]
    unused = sorted(set(values.profiles) - {name for name, _ in cases})
    if unused:
        notes.append(f"The assumptions for {', '.join(unused)} are not used: no incident was forecast there.")
    if hours == 0:
        notes.append("Nothing has been observed yet: there is nothing to estimate from.")
    elif not cases:
        notes.append(f"No incident has been forecast in {hours:.1f} h: there is nothing to estimate from.")
    elif hours < SHORT_HOURS:
        notes.append(
            f"Only {hours:.1f} h have been observed: a day is {24 / hours:.1f} times that, a year "
            f"{DAYS_A_YEAR * 24 / hours:,.0f} times; days and nights differ."
        )
    return notes


def _measured(cases: Sequence[Case], values: CostSettings, found: Mapping[str, EffectEstimate]) -> list[str]:
    """What the playbook of each profile was seen to prevent, beside what is assumed."""
    return [
        f"{profile}: {values.of(profile)[1]:.0%} of incidents are assumed to be prevented; {in_words(found[profile])}."
        for profile in sorted({name for name, _ in cases} & found.keys())
    ]
