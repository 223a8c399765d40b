"""The closed loop on a simulated fleet: forecast, risk, alert, plan, action, and the future that follows from it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.routing import Routing
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import ConflictError, UsageError
from fleetcast.remediation.build import build_runner
from fleetcast.remediation.engine import RemediationEngine
from fleetcast.remediation.fleet import Surroundings
from fleetcast.remediation.plan import is_held_out
from fleetcast.remediation.runner import Runner
from fleetcast.remediation.simulated_executor import actions_after, apply
from fleetcast.remediation.trial import CASE, Case, ServerCount
from fleetcast.remediation.views import PlanView
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings, RemediationSettings
from fleetcast.simulate.live import LiveFleet
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.truth import topology_table
from fleetcast.simulate.world import World
from fleetcast.store.engine import Store, open_store

TRIAL = "trial"
NEVER = 10**9
Detector = Callable[[LiveFleet, datetime], list[Risk]]
"""The risks of a fleet's servers at a time, from what there is up to it."""


@dataclass
class _Clock:
    """The time of the simulation."""

    time: datetime

    def now(self) -> datetime:
        return self.time

    def sleep_seconds(self, until: datetime) -> float:
        return 0.0


@dataclass
class SeedResult:
    """What one seed came to."""

    counts: list[ServerCount] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    refused: int = 0


def run_seed(
    spec: FleetSpec, hours: float, every_minutes: int, detector: Detector, settings: RemediationSettings
) -> SeedResult:
    """Act on a fleet for so many hours after the end of `spec`, and compare with the same fleet left alone.

    Whatever a playbook proposes is approved: measured is what acting does. What a plan changed is put back `CASE`
    later. Limits, cool-down and the held-out share are those of the settings. Raises `UsageError` for a span or a
    cycle that is too short.
    """
    if hours <= 0 or every_minutes * 60 % STEP_SECONDS or every_minutes <= 0:
        raise UsageError(f"{hours:g} hours every {every_minutes} min: give hours above 0 and a multiple of 5 minutes")
    live, alone = LiveFleet(spec), LiveFleet(spec)
    start, end = live.end, live.end + timedelta(hours=hours)
    edges = edges_of(spec)
    with _database() as store:
        loop = _Loop(store, live, detector, settings, edges, _Clock(start))
        while loop.clock.time < end:
            loop.cycle()
            loop.clock.time += timedelta(minutes=every_minutes)
    onsets, untouched = (_onsets(fleet, start, end + CASE) for fleet in (live, alone))
    layout = World(spec).layout
    cell = {name: f"{spec.seed}/{layout.cell(number).start}" for number, name in enumerate(live.servers)}
    result = SeedResult(refused=loop.refused)
    for name in live.servers:
        held = is_held_out(name, settings.holdout_share)
        within = [sum(onset <= end for onset in found.get(name, [])) for found in (untouched, onsets)]
        result.counts.append(ServerCount(cell[name], held, *within))
    for plan in loop.done:
        assert plan.started_at is not None
        came = [_comes(found.get(plan.server, []), plan.started_at) for found in (untouched, onsets)]
        result.cases.append(Case(cell[plan.server], plan.playbook, *came))
    return result


def edges_of(spec: FleetSpec) -> list[tuple[str, str]]:
    """Who depends on whom in a simulated fleet."""
    table = topology_of(spec)
    return list(zip(table["upstream"].to_pylist(), table["downstream"].to_pylist(), strict=True))


def topology_of(spec: FleetSpec) -> pa.Table:
    """The same as a table (schema `TOPOLOGY`)."""
    return topology_table(World(spec).layout, range(spec.servers))


class _Loop:
    def __init__(
        self,
        store: Store,
        live: LiveFleet,
        detector: Detector,
        settings: RemediationSettings,
        edges: Sequence[tuple[str, str]],
        clock: _Clock,
    ) -> None:
        mine = settings.model_copy(update={"mode": "simulated", "breaker_failures": NEVER})
        self._store, self._live, self._detector, self._edges = store, live, detector, edges
        rules = AlertSettings(open_after_cycles=1, resolve_after_cycles=2, shadow=True)
        self._alerts = AlertEngine(store, rules, Routing.default())
        self._engine = RemediationEngine(store, clock, mine)
        self._runner: Runner = build_runner(store, clock, mine)
        self._last = 0
        self.clock, self.profiles = clock, dict.fromkeys(live.servers, "")
        self.done: list[PlanView] = []
        self.refused = 0

    def cycle(self) -> None:
        """One cycle: what is seen, who is warned, what is done; the fleet feels it from the next step on."""
        now = self.clock.now()
        risks = self._detector(self._live, now)
        self.profiles |= {risk.server: risk.profile for risk in risks}
        self._alerts.observe(risks, now)
        around = Surroundings(self.profiles, self._edges)
        for alert in self._alerts.list_alerts("open"):
            plan = self._engine.propose(alert.id, around)
            if plan is not None and plan.status == "proposed":
                plan = self._engine.approve(plan.id, plan.hash, TRIAL, {"admin"})
            if plan is not None and plan.status == "approved":
                self._carry_out(plan)
        self._runner.verify()
        for plan in self._engine.list_plans("executed", limit=1000):
            if plan.executed_at is not None and now - plan.executed_at >= CASE:
                self._runner.roll_back(plan.id, TRIAL)
        with self._store.reading() as session:
            new = actions_after(session, self._last)
        apply(self._live, new)
        self._last = new[-1].id if new else self._last

    def _carry_out(self, plan: PlanView) -> None:
        try:
            self.done.append(self._runner.execute(plan.id, TRIAL))
        except ConflictError:
            self.refused += 1


def _onsets(fleet: LiveFleet, start: datetime, until: datetime) -> dict[str, list[datetime]]:
    """Onsets by server, after `start` and up to `until`."""
    found: dict[str, list[datetime]] = {}
    for row in fleet.incidents(until).to_pylist():
        if start < row["onset"] <= until:
            found.setdefault(row["server"], []).append(row["onset"])
    return found


def _comes(onsets: Sequence[datetime], at: datetime) -> bool:
    return any(at < onset <= at + CASE for onset in onsets)


@contextmanager
def _database() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="fleetcast-trial-") as folder:
        store = open_store(f"sqlite:///{Path(folder) / 'trial.db'}")
        try:
            yield store
        finally:
            store.close()
