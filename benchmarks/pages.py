"""Who is woken in a fortnight, and whether that was right: this service's alerts beside the node-mixin rules.

`python -m benchmarks.pages --model BUNDLE [--seed 424242] [--quick]` simulates 200 servers, forecasts them every 30
min for 14 days, and hands the risks to the alert engine with the default routing, all in shadow mode; nobody
acknowledges. The rules of the Prometheus node mixin see the same samples at the same times and go through the same
engine: a server at which one fires is at P1. So both sides are joined, held back and resolved alike.

A page is an incident that reached the pager, by its level or because nobody answered. It is right when a labelled
incident of one of its servers is under way or begins within 8 h. `ours` and `peer` are pages a week; `precision`,
`lead_minutes` (median over right pages, from the page to the first onset; below 0 is late) and `warned` (share of the
labelled incidents with a page 15 min to 8 h before) are of both sides. `early` has our figures where the route to the
pager takes P2, or P2 and P3, too. --quick trains a tiny model first.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path

from sqlalchemy import select

from benchmarks._report import finish, parser_of
from benchmarks.transfer import tiny
from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.routing import Routing
from fleetcast.evaluation.incident_rivals import node_mixin
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.risk.assess import Risk
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.cycle import Watch, watch
from fleetcast.risk.limits import server_limits
from fleetcast.risk.model import RiskModel
from fleetcast.settings import AlertSettings
from fleetcast.simulate.simulator import SimulatedShard, simulate
from fleetcast.simulate.spec import FleetSpec
from fleetcast.store.engine import Store, open_store
from fleetcast.store.tables import NotificationTable
from fleetcast.windows.arrays import FleetArrays, arrays_from_table

EVERY = timedelta(minutes=30)
AHEAD, LEAST_LEAD = timedelta(hours=8), timedelta(minutes=15)
HISTORY = timedelta(days=8)
PAGER = "PagerDuty"
SIDES = ("ours", "peer")
EARLY = {"P1-P2": "P[12]", "P1-P3": "P[123]"}

Detector = Callable[[FleetArrays, datetime], list[Risk]]


@dataclass(frozen=True)
class Page:
    """An incident that reached the pager."""

    at: datetime
    servers: frozenset[str]


@dataclass(frozen=True)
class Trouble:
    """A labelled incident."""

    server: str
    onset: datetime
    end: datetime


@dataclass(frozen=True)
class Cycle:
    """What one side says of the fleet at a time."""

    at: datetime
    risks: list[Risk]
    planned: frozenset[str]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="a bundle with its risk model; --quick trains a tiny one")
    parser.add_argument("--seed", type=int, default=424242, help="another seed is another fleet")
    options = parser.parse_args()
    if options.quick:
        with tiny() as (bundle, _):
            finish(run(Forecaster.load(bundle), FleetSpec(servers=14, hours=8 * 24 + 12, seed=options.seed)), True)
    elif options.model is None:
        parser.error("give --model, or --quick")
    else:
        spec = FleetSpec(servers=200, hours=(8 + 14) * 24, seed=options.seed)
        finish(run(Forecaster.load(options.model), spec), False)


def run(forecaster: Forecaster, spec: FleetSpec) -> dict[str, object]:
    """Both sides on one fleet."""
    made = simulate(spec)
    fleet = arrays_from_table(made.table, maintenance=made.maintenance, timezone=spec.timezone)
    begin, end = fleet.time_at(0) + HISTORY, fleet.time_at(fleet.steps - 1)
    troubles = [Trouble(row["server"], row["onset"], row["end"]) for row in made.incidents.to_pylist()]
    troubles = [one for one in troubles if begin < one.onset <= end]
    detectors = {"ours": model_detector(forecaster, made), "peer": rules_detector(forecaster.spec.targets)}
    seen = {side: cycles_of(detectors[side], fleet, begin) for side in SIDES}
    pages = {side: pages_of(seen[side], made, Routing.default()) for side in SIDES}
    weeks = (end - begin) / timedelta(weeks=1)
    rates = {side: len(pages[side]) / weeks for side in SIDES}
    figures = {side: scores(pages[side], troubles) for side in SIDES}
    early = {levels: pages_of(seen["ours"], made, paging_from(pattern)) for levels, pattern in EARLY.items()}
    return {
        "benchmark": "pages",
        **rates,
        "peer_name": "the rules of the Prometheus node mixin, through the same engine",
        "ratio": rates["ours"] / rates["peer"] if rates["peer"] else float("inf"),
        "unit": "pages a week",
        "limit": None,
        "threads": 1,
        "rounds": 1,
        "spread": {side: [rates[side]] * 2 for side in SIDES},
        **{name: {side: figures[side][name] for side in SIDES} for name in figures["ours"]},
        "early": {levels: {"pages": len(found) / weeks, **scores(found, troubles)} for levels, found in early.items()},
        "incidents": len(troubles),
        "servers": spec.servers,
        "weeks": weeks,
    }


def model_detector(forecaster: Forecaster, made: SimulatedShard) -> Detector:
    """The path of the service: forecasts, calibration, risk model, levels that are held."""
    manifest = forecaster.manifest
    calibration = None if manifest.calibration is None else Calibration.model_validate(manifest.calibration)
    fitted = None if forecaster.risk_text is None else RiskModel.loads(forecaster.risk_text)
    kept = Watch()

    def detect(fleet: FleetArrays, now: datetime) -> list[Risk]:
        nonlocal kept
        last = fleet.index_of(now) + 1
        known = fleet.slice(last - forecaster.history_steps, last)
        risks, kept = watch(known, forecaster.forecast(known, now), kept, calibration, fitted, made.topology)
        return risks

    return detect


def rules_detector(metrics: tuple[str, ...]) -> Detector:
    """The rules at their own thresholds: P1 where one fires."""

    def detect(fleet: FleetArrays, now: datetime) -> list[Risk]:
        past = fleet.until(fleet.index_of(now))
        firing = node_mixin(past, metrics, server_limits(past, metrics))[:, 0] >= 1
        names = zip(past.servers, past.profiles, firing.tolist(), strict=True)
        return [_risk(server, profile, now, fires) for server, profile, fires in names]

    return detect


def _risk(server: str, profile: str, now: datetime, fires: bool) -> Risk:
    p = float(fires)
    return Risk(
        server=server, profile=profile, origin=now, p_30m=p, p_2h=p, p_8h=p, open=False, level="P1" if fires else "P4",
        score=100 * p, metric="cpu_utilization", metric_probabilities={"cpu_utilization": p}, breach_s=None,
        breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


def paging_from(levels: str) -> Routing:
    """The default routing whose route to the pager takes levels that match the expression."""
    text = resources.files("fleetcast.alerting").joinpath("routing.yaml").read_text("utf-8")
    return Routing.parse(text.replace('[level="P1"]', f"['level=~\"{levels}\"']"), "paging early")


def cycles_of(detect: Detector, fleet: FleetArrays, begin: datetime) -> list[Cycle]:
    """What a detector says every half hour, and who is under planned maintenance."""
    found, now, end = [], begin, fleet.time_at(fleet.steps - 1)
    while now <= end:
        held = fleet.slice(fleet.index_of(now), fleet.index_of(now) + 1).maintenance_mask(0, 1)[:, 0]
        planned = frozenset(name for name, one in zip(fleet.servers, held.tolist(), strict=True) if one)
        found.append(Cycle(now, detect(fleet, now), planned))
        now += EVERY
    return found


def pages_of(cycles: list[Cycle], made: SimulatedShard, routing: Routing) -> list[Page]:
    """What reaches the pager when the engine gets these risks."""
    upstreams: dict[str, list[str]] = {}
    for edge in made.topology.to_pylist():
        upstreams.setdefault(edge["downstream"], []).append(edge["upstream"])
    settings = AlertSettings(open_after_cycles=1, resolve_after_cycles=2, shadow=True)
    with tempfile.TemporaryDirectory(prefix="fleetcast-benchmark-") as folder:
        store = open_store(f"sqlite:///{folder}/pages.db")
        engine = AlertEngine(store, settings, routing, FleetMap(edges=upstreams))
        for cycle in cycles:
            engine.observe(cycle.risks, cycle.at, cycle.planned)
        found = reached(store)
        store.close()
    return found


def reached(store: Store) -> list[Page]:
    """The first message to the pager of each incident, with the servers that it had then."""
    row = NotificationTable
    query = select(row).where(row.channel == PAGER, row.action == "trigger").order_by(row.id)
    with store.reading() as session:
        first = {(one.alert_id, one.episode): one for one in reversed(session.scalars(query).all())}
        return [Page(one.at, frozenset(one.facts["servers"])) for one in first.values()]


def scores(pages: list[Page], troubles: list[Trouble]) -> dict[str, float | None]:
    """Precision, median lead time and the share of incidents that were warned of; None where there is nothing."""
    leads = [lead for page in pages if (lead := lead_of(page, troubles)) is not None]
    warned = [any(_warns(page, one) for page in pages) for one in troubles]
    return {
        "precision": len(leads) / len(pages) if pages else None,
        "lead_minutes": statistics.median(lead / timedelta(minutes=1) for lead in leads) if leads else None,
        "warned": sum(warned) / len(warned) if warned else None,
    }


def lead_of(page: Page, troubles: list[Trouble]) -> timedelta | None:
    """From a page to the first onset that makes it right; None when it is wrong."""
    onsets = [one.onset for one in troubles if one.server in page.servers and one.onset - AHEAD <= page.at < one.end]
    return min(onsets) - page.at if onsets else None


def _warns(page: Page, trouble: Trouble) -> bool:
    return trouble.server in page.servers and LEAST_LEAD <= trouble.onset - page.at <= AHEAD


if __name__ == "__main__":
    main()
