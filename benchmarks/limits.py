"""How well the frozen evaluation fleet can be forecast at all: an oracle, a learner of observations, untrained rivals.

`python -m benchmarks.limits [--quick] [--model BUNDLE]` prints a table of weighted quantile losses and of incident
probabilities and ends with one line of JSON. `ours` is the geometric mean, over the target metrics, of the reference's
loss relative to `residual_floor`; `peer` is the oracle's. `reachable` is the share of the distance from the best rival
to the oracle that the reference closes, `model_closes` that of a bundle. About ten minutes on two cores; --quick takes
small fleets and says nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score

from benchmarks._report import finish, parser_of
from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.vocabulary import QUANTILE_LEVELS, STEP_SECONDS, STEPS_PER_HOUR, profile_codes
from fleetcast.evaluation.metrics import coverage, geometric_mean, weighted_quantile_loss
from fleetcast.evaluation.rivals import rival_quantiles
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.baselines import BASELINES
from fleetcast.simulate.calendar import TIMEZONE, MarketTime, market_time
from fleetcast.simulate.episode_steps import STRIKE
from fleetcast.simulate.frozen import frozen_evaluation
from fleetcast.simulate.oracle import INCIDENT_STEPS, OracleForecast, oracle_forecast
from fleetcast.simulate.reference.learner import ObservationReference
from fleetcast.simulate.simulator import SimulatedArrays, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.truth import maintenance_table
from fleetcast.simulate.world import World
from fleetcast.windows.arrays import FleetArrays

Floats = npt.NDArray[np.floating]
TARGETS = [METRIC_NAMES.index(name) for name in DEFAULT_TARGETS]
HORIZONS = ("30 min", "2 h", "8 h")


@dataclass(frozen=True)
class Plan:
    """What is run: fleets, origins, samples of the oracle, windows of the reference."""

    fleet: FleetSpec
    corpus: FleetSpec
    origins: list[datetime]
    horizon: int
    samples: int
    windows: int
    context: int

    @classmethod
    def full(cls, windows: int, samples: int) -> Plan:
        """The frozen fleet."""
        frozen = frozen_evaluation()
        return cls(frozen.evaluation.spec, frozen.corpus, frozen.origins, frozen.horizon, samples, windows, 7 * 24 * 12)

    @classmethod
    def small(cls) -> Plan:
        """A smoke run."""
        frozen = frozen_evaluation()
        fleet = frozen.evaluation.spec.model_copy(update={"servers": 25, "hours": 24.0 * 16})
        corpus = frozen.corpus.model_copy(update={"servers": 25, "hours": 24.0 * 6})
        return cls(fleet, corpus, frozen.origins[:3], frozen.horizon, 16, 512, 288)

    def steps(self) -> npt.NDArray[np.int64]:
        """The origins as positions in the fleet's arrays."""
        return np.array([int((origin - self.fleet.start).total_seconds()) // STEP_SECONDS for origin in self.origins])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--windows", type=int, default=1_000_000, help="windows that the reference learns on")
    parser.add_argument("--samples", type=int, default=400, help="futures that the oracle draws for each origin")
    parser.add_argument("--model", help="bundle to forecast the fleet with, beside the others")
    options = parser.parse_args()
    plan = Plan.small() if options.quick else Plan.full(options.windows, options.samples)
    arrays, _ = simulate_arrays(World(plan.fleet), range(plan.fleet.servers))
    ahead = plan.steps()[:, None] + np.arange(1, plan.horizon + 1)
    truth = np.stack([arrays.values[name] for name in DEFAULT_TARGETS], axis=1)[:, :, ahead].transpose(2, 0, 1, 3)
    onsets = (arrays.flags & STRIKE) != 0
    happened = np.stack([onsets[:, ahead[:, :within]].any(axis=2).T for within in INCIDENT_STEPS], axis=2)
    quantiles, seconds = {name: rival(name, arrays, plan) for name in BASELINES}, {}
    begun = time.perf_counter()
    oracle = in_order(oracle_forecast(plan.fleet, range(plan.fleet.servers), plan.origins, plan.samples), arrays)
    seconds["oracle"] = time.perf_counter() - begun
    begun = time.perf_counter()
    learnt, learnt_risk = reference(arrays, plan)
    seconds["reference"] = time.perf_counter() - begun
    if options.model:
        quantiles["model"] = bundle_quantiles(options.model, arrays, plan)
    quantiles |= {"reference": learnt, "oracle": oracle.quantiles}
    risks = {"reference": learnt_risk, "oracle": oracle.probability}
    finish(report(plan, arrays.profiles, truth, quantiles, happened, risks, oracle, seconds), options.quick)


def rival(name: str, arrays: SimulatedArrays, plan: Plan) -> Floats:
    """Quantiles [origin, server, metric, step, level] of an untrained rival."""
    past = np.stack([arrays.values[metric] for metric in DEFAULT_TARGETS], axis=1).astype(np.float32)
    pasts = [past[:, :, : at + 1] for at in plan.steps()]
    found = [rival_quantiles(BASELINES[name], one, plan.horizon, QUANTILE_LEVELS) for one in pasts]
    return np.stack(found)


def bundle_quantiles(path: str, arrays: SimulatedArrays, plan: Plan) -> Floats:
    """Quantiles [origin, server, metric, step, level] of a bundle that forecasts the default targets and levels."""
    forecaster, world = Forecaster.load(path), World(plan.fleet)
    end = plan.fleet.first_step + plan.fleet.steps
    planned = maintenance_table(world.layout, range(plan.fleet.servers), end)
    fleet = FleetArrays(arrays.servers, arrays.profiles, METRIC_NAMES, arrays.start, dense(arrays), planned, TIMEZONE)
    made = [forecaster.forecast(fleet.until(fleet.index_of(origin)), origin) for origin in plan.origins]
    if (set(made[0].metrics), made[0].levels, made[0].horizon) != (set(DEFAULT_TARGETS), QUANTILE_LEVELS, plan.horizon):
        raise SystemExit(f"{path} forecasts other metrics, levels or steps than the defaults")
    order = [made[0].metrics.index(name) for name in DEFAULT_TARGETS]
    return np.stack([forecast.quantiles[:, order] for forecast in made])


def in_order(oracle: OracleForecast, arrays: SimulatedArrays) -> OracleForecast:
    """The oracle's answers in the order of the arrays' servers."""
    order = [oracle.servers.index(name) for name in arrays.servers]
    return OracleForecast(
        arrays.servers, arrays.profiles, oracle.metrics, oracle.levels, oracle.origins, oracle.samples,
        oracle.quantiles[:, order], oracle.quantile_error[:, order], oracle.probability[:, order],
    )  # fmt: skip


def reference(arrays: SimulatedArrays, plan: Plan) -> tuple[Floats, Floats]:
    """Quantiles and incident probabilities of the observations-only reference."""
    corpus, _ = simulate_arrays(World(plan.corpus), range(plan.corpus.servers))
    known = market_time(plan.corpus.start_seconds, plan.corpus.steps)
    learner = ObservationReference.fit(
        dense(corpus), METRIC_NAMES, profile_codes(corpus.profiles), *calendar(known), (corpus.flags & STRIKE) != 0,
        windows=plan.windows, context=plan.context, horizon=plan.horizon, seed=plan.corpus.seed,
    )  # fmt: skip
    del corpus
    ahead = market_time(plan.fleet.start_seconds, plan.fleet.steps + plan.horizon)
    return learner.predict(dense(arrays), profile_codes(arrays.profiles), *calendar(ahead), plan.steps())


def dense(arrays: SimulatedArrays) -> npt.NDArray[np.float32]:
    return np.stack([series.astype(np.float32) for series in arrays.values.values()], axis=2)


def calendar(market: MarketTime) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Local hour, weekday and trading day, as the reference takes them."""
    return market.slot / STEPS_PER_HOUR, market.weekday.copy(), market.trading.copy()


def report(
    plan: Plan, server_profiles: Sequence[str], truth: Floats, quantiles: dict[str, Floats],
    happened: npt.NDArray[np.bool_], risks: dict[str, Floats], oracle: OracleForecast, seconds: dict[str, float],
) -> dict[str, object]:  # fmt: skip
    """Print the tables; returns the line of JSON."""
    losses = {
        name: [weighted_quantile_loss(truth[:, :, m], found[:, :, m], QUANTILE_LEVELS) for m in range(len(TARGETS))]
        for name, found in quantiles.items()
    }
    relative = {
        name: geometric_mean([one / floor for one, floor in zip(own, losses["residual_floor"], strict=True)])
        for name, own in losses.items()
    }
    bands = {name: coverage(truth, found[..., 1], found[..., -2]) for name, found in quantiles.items()}
    best = [min(losses[name][m] for name in BASELINES) for m in range(len(TARGETS))]
    closed = {
        name: [
            (rival_ - own) / (rival_ - limit)
            for rival_, own, limit in zip(best, losses[name], losses["oracle"], strict=True)
        ]
        for name in ("reference", "model")
        if name in losses
    }
    profiles = by_profile(server_profiles, truth, quantiles)
    print_losses(losses, relative, bands)
    print_profiles(profiles)
    incidents = {name: incident_scores(risk, happened) for name, risk in risks.items()}
    print_incidents(incidents)
    return {
        "benchmark": "limits",
        "ours": relative["reference"],
        "peer": relative["oracle"],
        "peer_name": "the oracle, which knows the latent state",
        "ratio": relative["reference"] / relative["oracle"],
        "unit": "weighted quantile loss relative to residual_floor, geometric mean over metrics",
        "limit": None,
        "threads": torch.get_num_threads(),
        "rounds": 1,
        "spread": {"oracle_median_standard_error": float(oracle.quantile_error[..., 3].mean())},
        "weighted_quantile_loss": {name: dict(zip(DEFAULT_TARGETS, own, strict=True)) for name, own in losses.items()},
        "relative_to_floor": relative,
        "coverage_80": bands,
        "coverage_80_by_profile": profiles,
        "reachable": dict(zip(DEFAULT_TARGETS, closed["reference"], strict=True)),
        "closes_overall": overall(relative),
        "model_closes": dict(zip(DEFAULT_TARGETS, closed.get("model", ()), strict=False)),
        "incidents": incidents,
        "cases": int(happened.shape[0] * happened.shape[1]),
        "oracle_samples": plan.samples,
        "reference_windows": plan.windows,
        "seconds": seconds,
    }


def overall(relative: dict[str, float]) -> dict[str, float]:
    """(rival - own) / (rival - oracle) in geometric means over the metrics, the rival being the best one in these."""
    best = min(relative[name] for name in BASELINES)
    names = [name for name in ("reference", "model") if name in relative]
    return {name: (best - relative[name]) / (best - relative["oracle"]) for name in names}


def by_profile(profiles: Sequence[str], truth: Floats, quantiles: dict[str, Floats]) -> dict[str, dict[str, float]]:
    """Share of a profile's points, over all metrics, within the 80 % band, by forecaster and profile."""
    rows = {name: np.array([one == name for one in profiles]) for name in sorted(set(profiles))}
    names = [name for name in ("model", "reference", "oracle") if name in quantiles]
    return {
        name: {
            profile: coverage(truth[:, own], quantiles[name][:, own][..., 1], quantiles[name][:, own][..., -2])
            for profile, own in rows.items()
        }
        for name in names
    }


def incident_scores(risk: Floats, happened: npt.NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Prevalence, area under the precision-recall curve and Brier skill against prevalence, by horizon."""
    found = {}
    for column, name in enumerate(HORIZONS):
        said, was = risk[..., column].ravel(), happened[..., column].ravel()
        share = float(was.mean())
        brier = float(((said - was) ** 2).mean())
        found[name] = {
            "prevalence": share,
            "mean_probability": float(said.mean()),
            "auprc": float(average_precision_score(was, said)) if was.any() else 0.0,
            "brier_skill": 1 - brier / (share * (1 - share)) if 0 < share < 1 else 0.0,
        }
    return found


def print_losses(losses: dict[str, list[float]], relative: dict[str, float], bands: dict[str, float]) -> None:
    table = Table("weighted quantile loss", *DEFAULT_TARGETS, "to floor", "in 80 % band")
    for name, own in losses.items():
        table.add_row(name, *(f"{one:.4f}" for one in own), f"{relative[name]:.3f}", f"{100 * bands[name]:.1f} %")
    Console(width=140).print(table)


def print_profiles(profiles: dict[str, dict[str, float]]) -> None:
    table = Table("points in the 80 % band", *next(iter(profiles.values())))
    for name, shares in profiles.items():
        table.add_row(name, *(f"{100 * share:.1f} %" for share in shares.values()))
    Console(width=140).print(table)


def print_incidents(incidents: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table("incident within", "", "prevalence", "mean probability", "AUPRC", "Brier skill")
    for horizon in HORIZONS:
        for name, scores in incidents.items():
            table.add_row(horizon, name, *(f"{score:.4f}" for score in scores[horizon].values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
