"""How good incident probabilities are on the frozen evaluation fleet, beside the oracle and what people alert on today.

`python -m benchmarks.risk [--quick] [--model BUNDLE] [--corpora N] [--store]` fits the risk on simulated fleets of
other seeds, before the model's cutoff, and prints two tables: the incident section of the frozen fleet (its 34
origins), and which way of getting a breach from quantiles is calibrated: comonotone steps, sample paths of a Gaussian
copula, the fitted line. Without --model the untrained residual floor forecasts; --store writes the fitted risk into the
bundle. The last line is JSON: `ours` is the AUPRC within 8 h, `peer` the oracle's. `oracle_share` is on all cases as in
`benchmarks.limits`, the section on those that onset scoring keeps. A quarter of an hour on one core; --quick says
nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.console import Console
from rich.markdown import Markdown

from benchmarks._report import finish, parser_of
from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.vocabulary import QUANTILE_LEVELS, STEP_SECONDS
from fleetcast.evaluation.calibrate import fit_windows, store_risk
from fleetcast.evaluation.incident_cases import IncidentCases, collect
from fleetcast.evaluation.incident_report import incident_markdown
from fleetcast.evaluation.incident_rivals import INCIDENT_RIVALS
from fleetcast.evaluation.incident_scores import average_precision, brier_skill, calibration_line
from fleetcast.evaluation.incident_section import IncidentSection, incident_section
from fleetcast.evaluation.protocol import Forecaster
from fleetcast.evaluation.risk_windows import RiskWindows, recent, risk_windows
from fleetcast.evaluation.rivals import BaselineForecaster, BaselineManifest
from fleetcast.forecast.forecaster import Forecaster as BundleForecaster
from fleetcast.forecast.table import ForecastArrays
from fleetcast.model.baselines import BASELINES
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.features import HISTORY_STEPS
from fleetcast.risk.incidents import in_incident, incident_steps, open_now, outcomes
from fleetcast.risk.judge import judge
from fleetcast.risk.limits import critical_limits
from fleetcast.risk.model import RiskModel
from fleetcast.risk.paths import normal_scores, path_probabilities, step_correlation
from fleetcast.risk.probability import HORIZONS, exceedance, incident_probabilities
from fleetcast.simulate.calendar import TIMEZONE
from fleetcast.simulate.frozen import frozen_evaluation
from fleetcast.simulate.oracle import oracle_forecast
from fleetcast.simulate.simulator import simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.truth import incident_table, maintenance_table, topology_table
from fleetcast.simulate.world import World
from fleetcast.windows.arrays import FleetArrays

Doubles = npt.NDArray[np.float64]
LINE = "line"
HISTORY = timedelta(days=7)


@dataclass(frozen=True)
class Plan:
    """What is run: the fleet that is scored, those that the risk is fitted on, and how densely."""

    fleet: FleetSpec
    origins: list[datetime]
    corpora: list[FleetSpec]
    stride: int
    quiet_share: float
    samples: int
    flap_steps: int

    @classmethod
    def full(cls, corpora: int) -> Plan:
        """The frozen fleet, and so many corpora like the frozen one."""
        frozen = frozen_evaluation()
        seeds = [frozen.corpus.seed + 1000 * (number + 1) for number in range(corpora)]
        fleets = [frozen.corpus.model_copy(update={"seed": seed}) for seed in seeds]
        return cls(frozen.evaluation.spec, frozen.origins, fleets, 6, 0.012, 400, 48)

    @classmethod
    def small(cls) -> Plan:
        """A smoke run."""
        frozen = frozen_evaluation()
        fleet = frozen.evaluation.spec.model_copy(update={"servers": 40, "hours": 24.0 * 16})
        corpus = frozen.corpus.model_copy(update={"servers": 60, "hours": 24.0 * 9, "incidents_per_day": 1.0})
        return cls(fleet, frozen.origins[:3], [corpus], 24, 0.1, 16, 4)


@dataclass(frozen=True)
class Known:
    """A simulated fleet with its truth."""

    fleet: FleetArrays
    incidents: pa.Table
    topology: pa.Table


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", help="bundle that forecasts; default the untrained residual floor")
    parser.add_argument("--corpora", type=int, default=4, help="fleets of 1,500 servers x 21 days to fit on")
    parser.add_argument("--store", action="store_true", help="write the fitted risk into the bundle")
    options = parser.parse_args()
    plan = Plan.small() if options.quick else Plan.full(options.corpora)
    forecaster = forecaster_of(options.model, plan.corpora[0])
    begun, seconds = time.perf_counter(), {}
    windows, scores = [], []
    for spec in plan.corpora:
        known = simulated(spec)
        origins = calibration_origins(known.fleet, forecaster, plan.stride)
        windows.append(
            risk_windows(
                forecaster,
                known.fleet,
                origins,
                known.incidents,
                None,
                plan.quiet_share,
                known.topology,
                later_share=0.25,
            )
        )
        print(f"{len(windows[-1].weights):,} windows of {spec.servers} servers, seed {spec.seed}", file=sys.stderr)
        scores.append(residual_scores(forecaster, known.fleet, origins[:: max(len(origins) // 6, 1)]))
    joined = RiskWindows.concat(windows)
    seconds["windows"], begun = time.perf_counter() - begun, time.perf_counter()
    calibration, model = fit_windows(joined)
    seconds["fit"], begun = time.perf_counter() - begun, time.perf_counter()
    if options.store and options.model:
        store_risk(options.model, calibration, model)
    scored = simulated(plan.fleet)
    forecasts = [forecaster.forecast(scored.fleet.until(scored.fleet.index_of(o)), o) for o in plan.origins]
    cutoff = scored.fleet.time_at(scored.fleet.index_of(plan.origins[0]))
    cases = collect(
        scored.fleet, forecasts, cutoff, calibration, model, scored.incidents, None, INCIDENT_RIVALS
    ).from_upstream(calibration, scored.topology)
    seconds["score"], begun = time.perf_counter() - begun, time.perf_counter()
    oracle = oracle_forecast(plan.fleet, range(plan.fleet.servers), plan.origins, plan.samples)
    order = [oracle.servers.index(name) for name in scored.fleet.servers]
    seconds["oracle"] = time.perf_counter() - begun
    others = {"oracle": oracle.probability[:, order], LINE: line_alone(forecasts, calibration)}
    source = {name: "fitted model" if model and name in model.horizons else LINE for name in HORIZONS}
    section = incident_section(cases, others, calibration.shared, source)
    Console(width=180).print(Markdown(incident_markdown(section)))
    flaps = flapping(forecaster, scored, calibration, model, plan.flap_steps)
    print(f"levels flap {flaps['as they are']:.3f} times a server-day, with hysteresis {flaps['held']:.3f}")
    paths = breaches(forecasts, scored.fleet, np.concatenate(scores), calibration)
    print_breaches(paths)
    found = result(section, cases, others, joined, calibration, model, seconds)
    finish({**found, "flaps_per_server_day": flaps, "breaches": paths}, options.quick)


def simulated(spec: FleetSpec) -> Known:
    """A fleet's samples, its labelled incidents, and who depends on whom."""
    world, servers = World(spec), range(spec.servers)
    arrays, episodes = simulate_arrays(world, servers)
    values = np.stack([series.astype(np.float32) for series in arrays.values.values()], axis=2)
    end = spec.first_step + spec.steps
    fleet = FleetArrays(
        arrays.servers, arrays.profiles, METRIC_NAMES, arrays.start, values,
        maintenance_table(world.layout, servers, end), TIMEZONE,
    )  # fmt: skip
    return Known(fleet, incident_table(world.layout, episodes, end), topology_table(world.layout, servers))


def forecaster_of(bundle: str | None, spec: FleetSpec) -> Forecaster:
    """The bundle's forecaster, or the residual floor, which is fitted on nothing."""
    if bundle:
        return BundleForecaster.load(bundle)
    cutoff = spec.start + timedelta(hours=spec.hours)
    manifest = BaselineManifest(DEFAULT_TARGETS, QUANTILE_LEVELS, max(HORIZONS.values()), cutoff)
    return BaselineForecaster("residual_floor", BASELINES["residual_floor"], manifest)


def calibration_origins(fleet: FleetArrays, forecaster: Forecaster, stride: int) -> list[datetime]:
    """Origins with a week of past, the longest horizon before the cutoff."""
    step, longest = timedelta(seconds=STEP_SECONDS), max(HORIZONS.values())
    first, last = fleet.time_at(0) + HISTORY, min(forecaster.manifest.cutoff, fleet.time_at(fleet.steps - 1))
    return [
        first + number * stride * step for number in range(int((last - longest * step - first) / (stride * step)) + 1)
    ]


def residual_scores(forecaster: Forecaster, fleet: FleetArrays, origins: Sequence[datetime]) -> Doubles:
    """Normal scores of what came [series, step], of some servers at some origins, all metrics."""
    some = fleet.of_servers(np.arange(0, len(fleet.servers), max(len(fleet.servers) // 60, 1)))
    found = []
    for origin in origins:
        at = some.index_of(origin)
        forecast = forecaster.forecast(some.until(at), origin)
        truth = some.select(forecast.metrics)[:, at + 1 : at + 1 + forecast.horizon].transpose(0, 2, 1)
        shape = (-1, forecast.horizon)
        quantiles = forecast.quantiles.reshape(*shape, len(forecast.levels))
        found.append(normal_scores(truth.reshape(shape), quantiles, forecast.levels))
    return np.concatenate(found)


def line_alone(forecasts: Sequence[ForecastArrays], calibration: Calibration) -> Doubles:
    """Probabilities [origin, server, horizon] of the calibrated exceedance."""
    limits = critical_limits(forecasts[0].profiles, forecasts[0].metrics)
    return np.stack([judge(forecast, limits, calibration).server for forecast in forecasts])


def breaches(
    forecasts: Sequence[ForecastArrays], fleet: FleetArrays, scores: Doubles, calibration: Calibration
) -> dict[str, dict[str, dict[str, float]]]:
    """How calibrated each way from quantiles to a breach of a threshold is, by way and horizon.

    The event is one that samples tell: a run of three critical steps after an hour below, in any metric. Servers in
    such an incident, or within the hour after one, are left out.
    """
    metrics, steps = forecasts[0].metrics, tuple(HORIZONS.values())
    limits = critical_limits(fleet.profiles, metrics)
    rows = incident_steps(fleet, metrics, limits)
    happened = np.stack([outcomes(rows, len(fleet.servers), fleet.index_of(f.origin), steps) for f in forecasts])
    kept = ~np.stack([busy(fleet, rows, limits, forecast) for forecast in forecasts])
    ways: dict[str, list[Doubles]] = {"comonotone": [], "copula, AR(1)": [], "copula, fitted": [], LINE: []}
    correlations = {
        "copula, AR(1)": step_correlation(scores, autoregressive=True), "copula, fitted": step_correlation(scores)
    }  # fmt: skip
    for forecast in forecasts:
        above = exceedance(forecast.quantiles, forecast.levels, limits)
        raw = incident_probabilities(forecast.quantiles, forecast.levels, limits)
        ways["comonotone"].append(raw.max(axis=1))
        ways[LINE].append(calibration.apply(raw).max(axis=1))
        flat = above.reshape(-1, above.shape[-1])
        risky = flat.max(axis=1) > 1e-4
        for name, correlation in correlations.items():
            said = np.zeros((len(flat), len(steps)))
            said[risky] = path_probabilities(flat[risky], correlation)
            ways[name].append(1 - np.prod(1 - said.reshape(*above.shape[:2], -1), axis=1))
    return {
        name: {word: _scored(np.stack(found)[..., place][kept], happened[..., place][kept])
               for place, word in enumerate(HORIZONS)}
        for name, found in ways.items()
    }  # fmt: skip


def busy(
    fleet: FleetArrays, incidents: npt.NDArray[np.int64], limits: npt.NDArray[np.float32], forecast: ForecastArrays
) -> npt.NDArray[np.bool_]:
    """Servers in an observed incident at a forecast's origin, or within the hour after one."""
    position = fleet.index_of(forecast.origin)
    held = open_now(fleet.until(position), forecast.metrics, limits).any(axis=1)
    return np.asarray(held | in_incident(incidents, len(fleet.servers), position))


def flapping(
    forecaster: Forecaster, known: Known, calibration: Calibration, model: RiskModel | None, steps: int
) -> dict[str, float]:
    """Flaps per server-day over so many 5-minute origins at the end of the fleet."""
    fleet, longest = known.fleet, max(HORIZONS.values())
    forecasts = []
    for position in range(fleet.steps - longest - steps, fleet.steps - longest):
        past = recent(fleet, position, HISTORY_STEPS)
        forecasts.append(forecaster.forecast(past, fleet.time_at(position)))
    cutoff = fleet.time_at(fleet.steps - longest - steps)
    cases = collect(fleet, forecasts, cutoff, calibration, model, known.incidents)
    cases = cases.from_upstream(calibration, known.topology)
    section = incident_section(cases, shared=calibration.shared)
    return {"as they are": section.flaps or 0.0, "held": section.flaps_held or 0.0}


def _scored(said: Doubles, happened: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Figures of probabilities; those that a handful of cases does not have are left out."""
    figures = {
        "said": float(said.mean()),
        "came": float(happened.mean()),
        "auprc": average_precision(said, happened),
        "brier_skill": brier_skill(said, happened),
        "slope": calibration_line(said, happened)[0],
    }
    return {name: figure for name, figure in figures.items() if np.isfinite(figure)}


def print_breaches(paths: dict[str, dict[str, dict[str, float]]]) -> None:
    for name, by_horizon in paths.items():
        for word, figures in by_horizon.items():
            print(
                f"breach within {word:4} {name:14}", "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
            )


def result(
    section: IncidentSection,
    cases: IncidentCases,
    others: dict[str, Doubles],
    windows: RiskWindows,
    calibration: Calibration,
    model: RiskModel | None,
    seconds: dict[str, float],
) -> dict[str, object]:
    """The line of JSON."""
    everything = {name: _all(cases, found) for name, found in {"model": cases.probability, **others}.items()}
    ours, best = everything["model"], everything["oracle"]
    share = {
        word: {key: ours[word][key] / best[word][key] for key in ("auprc", "brier_skill") if key in best[word]}
        for word in HORIZONS
    }
    recall = {
        word: {name: section.row(word, name).recall for name in ("model", "oracle", *cases.rivals)} for word in HORIZONS
    }
    return {
        "benchmark": "risk",
        "ours": ours["8h"].get("auprc"),
        "peer": best["8h"].get("auprc"),
        "peer_name": "the oracle, which knows the latent state",
        "ratio": share["8h"].get("auprc"),
        "unit": "AUPRC of incidents within 8 h, frozen evaluation fleet",
        "limit": None,
        "threads": 1,
        "rounds": 1,
        "spread": None,
        "oracle_share": share,
        "all_cases": everything,
        "recall_at_equal_false_alerts": recall,
        "section": section.model_dump(),
        "fitted_on": {"windows": len(windows.weights), "incidents": windows.events},
        "calibration": calibration.model_dump(),
        "fitted": sorted(model.horizons) if model else [],
        "seconds": seconds,
    }


def _all(cases: IncidentCases, said: Doubles) -> dict[str, dict[str, float]]:
    """Scores over all cases, also of servers in an incident, as `benchmarks.limits` takes them."""
    return {
        word: _scored(np.nan_to_num(said[..., place]).ravel(), cases.outcome[..., place].ravel())
        for place, word in enumerate(HORIZONS)
    }


if __name__ == "__main__":
    main()
