"""What the risk sees of incidents of kinds that its training did not have, on the frozen evaluation fleet.

`python -m benchmarks.unseen [--quick] [--model BUNDLE] [--corpora N]` fits the risk twice, on N simulated fleets of
other seeds with all kinds of incident and on the same N without three of them, and scores both on the frozen fleet, an
origin every 3 h, beside the oracle and the node-mixin rules. Left out are `connection_leak` (slow: hours of growing
connections, load and memory), `io_saturation` (fast: jumps from half way, seen in I/O wait) and `upstream_stall` (what
comes from a server that this one depends on). The forecasts are the same bundle's for both, and its training had all
kinds: this says what the risk carries over, not the forecaster. Without --model the untrained residual floor forecasts.

The last line is JSON: `ours` is the AUPRC of the left-out kinds within 8 h by the risk that had not seen them, `peer`
by the one that had. Some half an hour on one core; --quick says nothing.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from benchmarks._report import finish, parser_of
from benchmarks.risk import Known, Plan, calibration_origins, forecaster_of, simulated
from fleetcast.evaluation.calibrate import fit_windows
from fleetcast.evaluation.incident_cases import IncidentCases, collect
from fleetcast.evaluation.incident_kinds import KindRow, kinds_ahead, score_kinds
from fleetcast.evaluation.incident_rivals import node_mixin
from fleetcast.evaluation.protocol import Forecaster
from fleetcast.evaluation.risk_windows import RiskWindows, recent, risk_windows
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.features import HISTORY_STEPS
from fleetcast.risk.model import RiskModel
from fleetcast.risk.probability import HORIZONS
from fleetcast.simulate.kinds import KIND_NAMES
from fleetcast.simulate.oracle import oracle_forecast

GONE = ("connection_leak", "io_saturation", "upstream_stall")
SEEN, UNSEEN, ORACLE, RULES = "fitted on all kinds", "fitted without them", "oracle", "node mixin"
LEFT_OUT, OTHERS = "left out", "the others"
GROUPS = {LEFT_OUT: GONE, **{kind: (kind,) for kind in GONE}, OTHERS: tuple(set(KIND_NAMES) - set(GONE))}

Doubles = npt.NDArray[np.float64]
Fit = tuple[Calibration, RiskModel | None]


def plan_of(quick: bool, corpora: int) -> Plan:
    """That of `benchmarks.risk`, at three times its origins; a smoke run has many incidents."""
    if quick:
        plan = Plan.small()
        return replace(plan, fleet=plan.fleet.model_copy(update={"servers": 60, "incidents_per_day": 1.0}))
    plan = Plan.full(corpora)
    between = [origin + timedelta(hours=hours) for origin in plan.origins[:-1] for hours in (0, 3, 6)]
    return replace(plan, origins=[*between, plan.origins[-1]], samples=152)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", help="bundle that forecasts; default the untrained residual floor")
    parser.add_argument("--corpora", type=int, default=2, help="fleets of 1,500 servers x 21 days to fit on")
    options = parser.parse_args()
    plan = plan_of(options.quick, options.corpora)
    forecaster, begun, seconds = forecaster_of(options.model, plan.corpora[0]), time.perf_counter(), {}
    fits = {SEEN: fitted(forecaster, plan, ()), UNSEEN: fitted(forecaster, plan, GONE)}
    seconds["fit"], begun = time.perf_counter() - begun, time.perf_counter()
    known = simulated(plan.fleet)
    forecasts = forecasts_of(forecaster, known, plan.origins)
    cases = {name: scored(known, forecasts, fit) for name, fit in fits.items()}
    seconds["score"], begun = time.perf_counter() - begun, time.perf_counter()
    oracle = oracle_forecast(plan.fleet, range(plan.fleet.servers), plan.origins, plan.samples, horizon=1)
    order = [oracle.servers.index(name) for name in known.fleet.servers]
    seconds["oracle"] = time.perf_counter() - begun
    said = {name: found.probability for name, found in cases.items()}
    said |= {ORACLE: oracle.probability[:, order], RULES: cases[SEEN].rivals[RULES]}
    rows = score_kinds(cases[SEEN], kinds_ahead(cases[SEEN], known.incidents), GROUPS, said)
    print(table(rows))
    finish(result(rows, fits, seconds), options.quick)


def fitted(forecaster: Forecaster, plan: Plan, without: tuple[str, ...]) -> Fit:
    """The risk of the forecasts, fitted on the plan's fleets without these kinds."""
    windows = []
    for spec in plan.corpora:
        known = simulated(spec.model_copy(update={"without_kinds": without}))
        origins = calibration_origins(known.fleet, forecaster, plan.stride)
        windows.append(
            risk_windows(
                forecaster, known.fleet, origins, known.incidents, None, plan.quiet_share, known.topology,
                later_share=0.25,
            )
        )  # fmt: skip
        print(f"{len(windows[-1].weights):,} windows, seed {spec.seed}, without {without}", file=sys.stderr)
    return fit_windows(RiskWindows.concat(windows))


def forecasts_of(forecaster: Forecaster, known: Known, origins: list[datetime]) -> list[ForecastArrays]:
    """Forecasts of all servers at the origins."""
    reach = max(getattr(forecaster, "history_steps", known.fleet.steps), HISTORY_STEPS)
    pasts = [recent(known.fleet, known.fleet.index_of(origin), reach) for origin in origins]
    return [forecaster.forecast(past, origin) for past, origin in zip(pasts, origins, strict=True)]


def scored(known: Known, forecasts: list[ForecastArrays], fit: Fit) -> IncidentCases:
    """The cases of the fleet at the forecasts' origins, with what comes from upstream."""
    rules = {RULES: node_mixin}
    cases = collect(known.fleet, forecasts, forecasts[0].origin, *fit, known.incidents, None, rules)
    return cases.from_upstream(fit[0], known.topology)


def table(rows: list[KindRow]) -> str:
    """A Markdown table: a line a horizon and group, AUPRC and recall of each forecaster."""
    names = list(dict.fromkeys(row.forecaster for row in rows))
    lines = [
        f"| within | kinds | events | {' | '.join(names)} |",
        f"|---|---|--:|{'--:|' * len(names)}",
    ]
    for horizon in HORIZONS:
        for group in GROUPS:
            here = [row for row in rows if (row.horizon, row.kinds) == (horizon, group)]
            cells = [f"{_number(row.auprc, 3)} / {_number(row.recall, 2)}" for row in here]
            lines.append(f"| {horizon} | {group} | {here[0].events} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def result(rows: list[KindRow], fits: dict[str, Fit], seconds: dict[str, float]) -> dict[str, object]:
    """The line of JSON."""
    ours, peer = (
        next(row.auprc for row in rows if (row.horizon, row.forecaster, row.kinds) == ("8h", name, LEFT_OUT))
        for name in (UNSEEN, SEEN)
    )
    return {
        "benchmark": "unseen",
        "ours": ours,
        "peer": peer,
        "peer_name": "the same risk, fitted on these kinds too",
        "ratio": ours / peer if ours and peer else None,
        "unit": f"AUPRC within 8 h of {', '.join(GONE)}, frozen evaluation fleet",
        "limit": None,
        "threads": 1,
        "rounds": 1,
        "spread": None,
        "rows": [row.model_dump() for row in rows],
        "fitted_on": {name: calibration.incidents for name, (calibration, _) in fits.items()},
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
