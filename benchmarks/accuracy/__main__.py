"""Which ingredient of the default model pays: variants of the `default` preset, trained and scored one by one.

`python -m benchmarks.accuracy --data VMS --simulated FLEET [--variants a,b] [--seeds 0,1,2] [--test]` trains each
variant with each seed on each dataset, in this process and on one thread, and scores it on the validation part: VMS, a
dataset imported from Bitbrains (`fleetcast import csv ... --mapping examples/bitbrains.yaml`), on 18 windows of 48
steps and 9 levels; FLEET, a simulated one, on 18 windows of 96 steps at all levels. Each run is a line of `--results`;
what is there already is not done again. `--raw FOLDER`, which the VMs were imported from, adds the loss in MHz.
`--table` prints the table of the results and trains nothing. `--test` scores the last windows instead: choose by the
validation part, and look once. A run takes minutes; --quick trains for seconds on a small simulated fleet and says
nothing. The last line is JSON: `ours` is the default's loss relative to the floor (`peer`, 1).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks._report import finish, parser_of
from benchmarks.accuracy import results
from benchmarks.accuracy.protocol import FLEET, VMS, Bench, Protocol, capacities_of, short
from benchmarks.accuracy.training import train_members
from benchmarks.accuracy.variants import CATALOGUE, Variant, chosen
from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.errors import FleetCastError, UsageError
from fleetcast.simulate.simulator import simulate
from fleetcast.simulate.spec import FleetSpec

RESULTS = Path(__file__).parent / "results.jsonl"


@dataclass(frozen=True)
class Length:
    """How long variants train; None is the preset's."""

    epochs: int | None = None
    samples: int | None = None


def main() -> None:
    options = _parser().parse_args()
    try:
        run(options)
    except FleetCastError as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--data", help="dataset of real VMs")
    parser.add_argument("--simulated", help="simulated dataset")
    parser.add_argument("--variants", help="names between commas; default all: " + ", ".join(v.name for v in CATALOGUE))
    parser.add_argument("--seeds", default="0,1,2", help="between commas")
    parser.add_argument("--test", action="store_true", help="score the test part, not the validation part")
    parser.add_argument("--raw", help="folder of the raw files of the VMs, for the loss in MHz")
    parser.add_argument("--results", type=Path, help=f"JSON lines; default {RESULTS.name} beside this program")
    parser.add_argument("--table", action="store_true", help="print the table and train nothing")
    parser.add_argument("--epochs", type=int, help="default the preset's")
    parser.add_argument("--samples", type=int, help="windows an epoch, default the preset's")
    return parser


def run(options: argparse.Namespace) -> None:
    """What the command line asks for."""
    part = "test" if options.test else "validation"
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            path = options.results or Path(folder) / "results.jsonl"
            data = small_fleet(Path(folder) / "data")
            variants = chosen(options.variants or "default,no_anchors")
            experiment([Bench(short(FLEET), data, part)], variants, [0], path, Length(1, 64))
            _finish(path, True)
        return
    path = options.results or RESULTS
    if not options.table:
        benches = []
        for protocol, data in ((VMS, options.data), (FLEET, options.simulated)):
            if data:
                benches.append(_bench(protocol, data, part, options.raw))
        if not benches:
            raise UsageError("give --data VMS or --simulated FLEET (or both), or --table")
        length = Length(options.epochs, options.samples)
        experiment(benches, chosen(options.variants), _numbers(options.seeds), path, length)
    _finish(path, False)


def experiment(
    benches: Sequence[Bench], variants: Sequence[Variant], seeds: Sequence[int], path: Path, length: Length
) -> None:
    """Train and score what the file of results has not: seed by seed, so that all variants have a first one early."""
    for seed in seeds:
        for variant in variants:
            for bench in benches:
                known = results.read(path)
                plan = bench.plan(seed, length.epochs, length.samples)
                settings = results.digest_of(variant.describe(plan))
                plain = results.digest_of(CATALOGUE[0].describe(plan))
                if settings == plain and variant != CATALOGUE[0]:
                    continue  # changes nothing of this preset
                key = (variant.name, seed, bench.manifest.fingerprint, bench.part, settings)
                if key in {run.key for run in known}:
                    continue
                found = one_run(bench, variant, seed, settings, length)
                results.append(path, known, found)
                figures = ", ".join(f"{name} {value:.4f}" for name, value in found.figures.items())
                what = f"{datetime.now(UTC):%H:%M:%S} {variant.name}, seed {seed}, {bench.protocol.name}"
                print(f"{what}: {figures}, {found.seconds:.0f} s", file=sys.stderr, flush=True)


def one_run(bench: Bench, variant: Variant, seed: int, settings: str, length: Length) -> results.Run:
    """Train and score one variant with one seed."""
    begun = time.perf_counter()
    bundles = train_members(bench.plan(seed, length.epochs, length.samples), variant)
    seconds = time.perf_counter() - begun
    report, extra = bench.score(bundles)
    return results.Run(
        variant=variant.name,
        seed=seed,
        protocol=bench.protocol.name,
        data=bench.manifest.fingerprint,
        part=bench.part,
        settings=settings,
        figures=results.figures_of(report, extra),
        metrics=results.metrics_of(report),
        servers=report.servers,
        windows=report.windows,
        parameters=sum(bundle.manifest.parameters for bundle in bundles),
        seconds=seconds,
        versions=results.versions(),
    )


def small_fleet(folder: Path, hours: float = 24.0 * 6) -> str:
    """A simulated dataset of a smoke run."""
    spec = FleetSpec(servers=7, hours=hours, seed=7)
    storage = Storage(folder)
    storage.create()
    made = simulate(spec)
    part = write_part(storage, 0, made.table, METRIC_NAMES)
    for name in ("incidents", "topology", "maintenance"):
        storage.write_table(f"{name}.parquet", getattr(made, name))
    write_manifest(storage, [part], METRIC_NAMES, spec.timezone, spec.source())
    return str(folder)


def _bench(protocol: Protocol, data: str, part: str, raw: str | None) -> Bench:
    return Bench(protocol, data, part, capacities_of(raw) if raw and protocol is VMS else None)


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds is {text!r}; write for example 0,1,2") from None


def _finish(path: Path, quick: bool) -> None:
    """Print the table of all results, and the line of JSON."""
    runs = results.read(path)
    if not runs:
        raise UsageError(f"{path} has no results yet: give --data VMS or --simulated FLEET")
    print(results.table(runs, CATALOGUE))
    last = runs[-1]
    some = [run for run in runs if (run.data, run.part) == (last.data, last.part)]
    own = results.newest(some, "default") or results.newest(some, last.variant)
    values = [run.figures["wql_to_floor"] for run in own]
    finish(
        {
            "benchmark": "accuracy",
            "ours": sum(values) / len(values),
            "peer": 1.0,
            "peer_name": "residual_floor, which is not trained",
            "ratio": sum(values) / len(values),
            "unit": f"weighted quantile loss of {own[-1].variant} on {own[-1].protocol}, relative to the floor",
            "limit": None,
            "threads": 1,
            "rounds": len(values),
            "spread": values,
            "runs": len(runs),
        },
        quick,
    )


if __name__ == "__main__":
    main()
