"""Servers that training never saw, by hours of history, beside servers that it saw.

`python -m benchmarks.transfer --model BUNDLE --data DATASET [--quick]` needs the simulated dataset that the bundle was
trained on. The new servers are the next ones of the same world: same seed, same span, same origins, only the servers
are others. All origins lie at least one horizon after the cutoff. With 1 to 48 hours, samples before that are taken
away, from new and known servers alike; `full` is all that a forecast reads.

Figures are weighted quantile losses over those of the residual floor with the same history, by target and as a
geometric mean over targets, with 95 % intervals from resampled servers. `forecast` is what the product gives, the
untrained fallback included (its share is told); `model` asks the network whatever the product's rules. `to_full` is the
product's loss over that of the same servers' full history. `coverage_80` is the share of points within the 80 % band.
Ends with one line of JSON: `ratio` is new over known with full history.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks._report import finish, parser_of
from benchmarks.accuracy.__main__ import small_fleet
from benchmarks.accuracy.training import train_one
from benchmarks.accuracy.variants import CATALOGUE
from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import IncompatibleError
from fleetcast.evaluation.levels import at_levels
from fleetcast.evaluation.metrics import geometric_mean, pinball
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.forecast.table import FALLBACK, MODEL, NONE
from fleetcast.model.floor import residual_floor
from fleetcast.simulate.simulator import simulate
from fleetcast.simulate.spec import FleetSpec, spec_of_source
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import make_plan
from fleetcast.windows.arrays import FleetArrays, arrays_from_table, arrays_of_some

HISTORIES: dict[str, int | None] = {"1 h": 1, "6 h": 6, "12 h": 12, "18 h": 18, "24 h": 24, "48 h": 48, "full": None}
SERVERS = 200  # of each kind, at most
STRIDE_HOURS = 9
RESAMPLES = 1000
BAND = (0.1, 0.9)
MAKERS = ("forecast", "model", "floor")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Losses:
    """Of one kind of servers: `pinball[history][maker]` sums over origins, steps and levels [server, target].

    `sources[history]` counts server origins by source, `coverage[history][maker]` is the share of points within the
    80 % band. All makers and histories are scored on the same points.
    """

    pinball: dict[str, dict[str, Floats]]
    sources: dict[str, dict[str, int]]
    coverage: dict[str, dict[str, float]]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--model", type=Path, help="bundle; --quick trains a tiny one")
    parser.add_argument("--data", help="the simulated dataset that it was trained on")
    arguments = parser.parse_args()
    if arguments.quick:
        with tiny() as (bundle, data):
            found = run(bundle, data)
    elif arguments.model is None or arguments.data is None:
        parser.error("give --model and the --data that it was trained on, or --quick")
    else:
        found = run(arguments.model, arguments.data)
    finish(found, arguments.quick)


@contextmanager
def tiny() -> Iterator[tuple[Path, str]]:
    """A tiny model and the small fleet that it was trained on."""
    with tempfile.TemporaryDirectory(prefix="fleetcast-benchmark-") as folder:
        data = small_fleet(Path(folder) / "data", 120.0)
        options = TrainOptions(data=data, models=folder, preset="tiny", holdout=timedelta(hours=32), epochs=1)
        bundle = Path(folder) / "tiny"
        train_one(make_plan(options, Dataset.open(data).manifest), CATALOGUE[0]).save(bundle)
        yield bundle, data


def run(bundle: Path, data: str) -> dict[str, object]:
    """Score known and new servers and print the tables."""
    forecaster, dataset = Forecaster.load(bundle), Dataset.open(data)
    manifest = dataset.manifest
    if forecaster.manifest.data_fingerprint != manifest.fingerprint:
        sides = forecaster.manifest.data_fingerprint, manifest.fingerprint
        raise IncompatibleError(f"the training data of {bundle}", f"dataset {data}", [("fingerprint", *sides)])
    known = arrays_of_some(dataset, SERVERS)
    new = next_servers(spec_of_source(manifest.source), len(known.servers))
    origins = origins_of(forecaster, known)
    kinds = {"known": losses(forecaster, known, origins), "new": losses(forecaster, new, origins)}
    return result(forecaster.spec.targets, kinds, len(origins), len(known.servers))


def next_servers(spec: FleetSpec, count: int) -> FleetArrays:
    """As many servers more of the same world: a server is the same in a larger fleet."""
    larger = spec.model_copy(update={"servers": spec.servers + count})
    shard = simulate(larger, range(spec.servers, larger.servers))
    return arrays_from_table(shard.table, spec.start, None, shard.maintenance, spec.timezone)


def origins_of(forecaster: Forecaster, fleet: FleetArrays) -> list[int]:
    """Steps of the origins: from a horizon after the cutoff on, as long as a whole horizon follows."""
    horizon = forecaster.spec.horizon
    first = fleet.index_of(forecaster.manifest.cutoff) + horizon
    origins = list(range(first, fleet.steps - horizon, STRIDE_HOURS * STEPS_PER_HOUR))
    if not origins:
        raise AssertionError("no origin: the data ends less than two horizons after the model's cutoff")
    return origins


def losses(forecaster: Forecaster, fleet: FleetArrays, origins: list[int]) -> Losses:
    """Forecast from all origins with each length of history, and score."""
    shape = (len(fleet.servers), len(forecaster.spec.targets))
    sums = {history: {maker: np.zeros(shape) for maker in MAKERS} for history in HISTORIES}
    sources = {history: dict.fromkeys((MODEL, FALLBACK, NONE), 0) for history in HISTORIES}
    inside, points = {history: dict.fromkeys(MAKERS, 0) for history in HISTORIES}, 0
    for origin in origins:
        past = forecaster.history(fleet.until(origin), fleet.time_at(origin))
        truth = fleet.slice(origin + 1, origin + 1 + forecaster.spec.horizon).select(forecaster.spec.targets)
        found = {history: quantiles_of(forecaster, past, hours) for history, hours in HISTORIES.items()}
        scored = np.isfinite(truth.transpose(0, 2, 1))
        for quantiles, _ in found.values():
            scored &= np.isfinite(quantiles["forecast"]).all(axis=-1)
        kept = np.where(scored, truth.transpose(0, 2, 1), np.nan)
        points += int(scored.sum())
        for history, (quantiles, made) in found.items():
            for maker, values in quantiles.items():
                low, high = at_levels(values, forecaster.spec.levels, BAND).transpose(3, 0, 1, 2)
                inside[history][maker] += int(((kept >= low) & (kept <= high)).sum())
                one = pinball(kept, values, forecaster.spec.levels).sum(axis=-1)
                sums[history][maker] += np.where(scored, one, 0).sum(axis=-1)
            for source in made:
                sources[history][source] += 1
    coverage = {
        history: {maker: count / points for maker, count in counts.items()} for history, counts in inside.items()
    }
    return Losses(sums, sources, coverage)


def quantiles_of(
    forecaster: Forecaster, past: FleetArrays, hours: int | None
) -> tuple[dict[str, npt.NDArray[np.float32]], tuple[str, ...]]:
    """Quantiles [server, target, step, level] by maker, and the sources of the product's forecast."""
    values = past.values.copy()
    if hours is not None:
        values[:, : -hours * STEPS_PER_HOUR] = np.nan
    short = replace(past, values=values)
    forecast = forecaster.forecast(short, short.time_at(short.steps - 1))
    for source, reason in zip(forecast.sources, forecast.reasons, strict=True):
        if (source == MODEL) == bool(reason):
            raise AssertionError(f"a forecast by {source} gives the reason {reason!r}")
    spec = forecaster.spec
    targets = short.select(spec.targets)
    floor = [residual_floor(targets[:, :, column], spec.horizon, spec.levels) for column in range(len(spec.targets))]
    made = {
        "forecast": forecast.quantiles,
        "model": forecaster.model_quantiles(short),
        "floor": np.stack(floor, axis=1),
    }
    return made, forecast.sources


def relative(kind: Losses, history: str, maker: str, rows: npt.NDArray[np.int64], to_full: bool = False) -> list[float]:
    """By target, a maker's loss over the floor's with the same history, or over its own with full history."""
    below = kind.pinball["full"][maker] if to_full else kind.pinball[history]["floor"]
    return list(kind.pinball[history][maker][rows].sum(axis=0) / below[rows].sum(axis=0))


def result(targets: tuple[str, ...], kinds: dict[str, Losses], origins: int, servers: int) -> dict[str, object]:
    generator = np.random.default_rng(0)
    every = np.arange(servers)
    draws = {kind: generator.integers(0, servers, (RESAMPLES, servers)) for kind in kinds}
    figures: dict[str, dict[str, dict[str, object]]] = {}
    for kind, found in kinds.items():
        figures[kind] = {}
        for history in HISTORIES:
            figures[kind][history] = {
                "fallback_share": found.sources[history][FALLBACK] / (origins * servers),
                "coverage_80": found.coverage[history],
            }
            for name, maker, to_full in (
                ("forecast", "forecast", 0),
                ("model", "model", 0),
                ("to_full", "forecast", 1),
            ):
                spread = [geometric_mean(relative(found, history, maker, rows, bool(to_full))) for rows in draws[kind]]
                by_target = relative(found, history, maker, every, bool(to_full))
                figures[kind][history][name] = geometric_mean(by_target)
                figures[kind][history][f"{name}_interval"] = interval(spread)
                figures[kind][history][f"{name}_by_target"] = dict(zip(targets, by_target, strict=True))
    print_tables(figures, targets)
    sides = {kind: geometric_mean(relative(found, "full", "forecast", every)) for kind, found in kinds.items()}
    ratios = [
        geometric_mean(relative(kinds["new"], "full", "forecast", new))
        / geometric_mean(relative(kinds["known"], "full", "forecast", known))
        for new, known in zip(draws["new"], draws["known"], strict=True)
    ]
    return {
        "benchmark": "transfer",
        "ours": sides["new"],
        "peer": sides["known"],
        "peer_name": "the same model on servers that training saw, full history",
        "ratio": sides["new"] / sides["known"],
        "unit": "weighted quantile loss over residual_floor's",
        "limit": None,
        "threads": 1,
        "rounds": origins,
        "spread": {"ratio": interval(ratios)},
        "servers": servers,
        "figures": figures,
    }


def interval(values: list[float]) -> list[float]:
    """The middle 95 %."""
    return [float(value) for value in np.nanquantile(values, (0.025, 0.975))]


def print_tables(figures: dict[str, dict[str, dict[str, object]]], targets: tuple[str, ...]) -> None:
    console = Console(width=160)
    table = Table(
        "servers",
        "history",
        "fallback",
        "forecast / floor",
        "model asked anyway / floor",
        "to full history",
        "80 % band holds",
        "model's",
    )
    for kind, histories in figures.items():
        for history, found in histories.items():
            cells = [ranged(found, name) for name in ("forecast", "model", "to_full")]
            coverage = found["coverage_80"]
            assert isinstance(coverage, dict)
            cells += [f"{coverage[maker]:.1%}" for maker in ("forecast", "model")]
            table.add_row(kind, history, f"{found['fallback_share']:.1%}", *cells)
    console.print(table)
    table = Table("servers", "history", *targets, title="forecast / floor, by target")
    for kind, histories in figures.items():
        for history, found in histories.items():
            by_target = found["forecast_by_target"]
            assert isinstance(by_target, dict)
            table.add_row(kind, history, *(f"{by_target[target]:.3f}" for target in targets))
    console.print(table)


def ranged(found: dict[str, object], name: str) -> str:
    value, ends = found[name], found[f"{name}_interval"]
    assert isinstance(value, float)
    assert isinstance(ends, list)
    return f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


if __name__ == "__main__":
    main()
