"""The command that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fleetcast.cli.output import JSON_OPTION, say, show
from fleetcast.cli.parse import parse_numbers, parse_span, parse_time, parse_words

CALIBRATION_STRIDE = 6
CALIBRATION_SERVERS = 1500
QUIET_WINDOWS = 30_000
SPREAD_SERVERS = 512


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(train)


def train(
    data: str = typer.Option(..., help="Dataset: folder or URI."),
    models: str = typer.Option(..., help="Folder of the runs and bundles."),
    preset: str = typer.Option("default", help="default, reference or tiny."),
    targets: str | None = typer.Option(None, help="Metrics to forecast, between commas; default the fleet's."),
    context: int | None = typer.Option(None, help="Encoder length in steps of 5 minutes (288 = 24 h)."),
    horizon: int | None = typer.Option(None, help="Decoder length in steps of 5 minutes (96 = 8 h)."),
    quantiles: str | None = typer.Option(None, help="Quantile levels, between commas; 0.5 must be one."),
    cutoff: str | None = typer.Option(None, help="Last time stamp that training may see, ISO 8601."),
    holdout: str | None = typer.Option(None, help="Span at the end kept out of training (72h); default a tenth."),
    workers: int | None = typer.Option(None, help="Training workers; default one a core, at most 2."),
    gpus_per_worker: float = typer.Option(0.0, help="GPUs of each worker: 0, 1 or a share of one."),
    precision: str = typer.Option("32-true", help="32-true, bf16-mixed, or 16-mixed (GPUs only)."),
    loader_threads: int | None = typer.Option(None, help="Threads of a worker for batches; default 2 with a GPU."),
    epochs: int | None = typer.Option(None, help="Epochs; default the preset's."),
    samples_per_epoch: int | None = typer.Option(None, help="Windows drawn an epoch; default the preset's."),
    batch_size: int | None = typer.Option(None, help="Windows a step of a worker."),
    learning_rate: float | None = typer.Option(None, help="Peak of the learning rate."),
    members: int | None = typer.Option(None, help="Networks whose median is the forecast; default the preset's."),
    seed: int = typer.Option(0, help="Seed of weights and draws."),
    run: str | None = typer.Option(None, help="Name; an unfinished run is gone on with. Default: from the time."),
    resume: bool = typer.Option(False, help="Insist that the run is there; do the end of a finished one again."),
    storage: str | None = typer.Option(None, help="Folder or URI that all nodes reach, for checkpoints."),
    checkpoint_seconds: float = typer.Option(120.0, help="Wall time between checkpoints; each epoch ends with one."),
    promote: bool = typer.Option(True, help="Make the new bundle the current one."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Train a Temporal Fusion Transformer with Ray Train and save a bundle.

    Ctrl-C writes a checkpoint and stops; the same command with the same --run goes on, after a crash too.
    """
    from fleetcast.errors import UsageError
    from fleetcast.training.options import TrainOptions

    if resume and run is None:
        raise UsageError("--resume needs the run's name: --run NAME")
    _require_at_least(1, workers=workers, epochs=epochs, horizon=horizon, batch_size=batch_size, members=members)
    _require_at_least(0, loader_threads=loader_threads)
    if not 0 <= gpus_per_worker <= 1:
        raise UsageError(
            f"--gpus-per-worker is {gpus_per_worker:g}; a worker uses one GPU at most: take more --workers"
        )
    _require_above_0(checkpoint_seconds=checkpoint_seconds, learning_rate=learning_rate)
    options = TrainOptions(
        data=data if "://" in data else str(Path(data).absolute()),
        models=models,
        run=run,
        resume=resume,
        preset=preset,
        targets=parse_words(targets),
        context=context,
        horizon=horizon,
        levels=parse_numbers(quantiles),
        cutoff=parse_time(cutoff),
        holdout=parse_span(holdout),
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        precision=precision,
        loader_threads=loader_threads,
        epochs=epochs,
        samples_per_epoch=samples_per_epoch,
        batch_size=batch_size,
        learning_rate=learning_rate,
        members=members,
        seed=seed,
        storage=storage,
        checkpoint_seconds=checkpoint_seconds,
    )
    show(train_and_calibrate(options, promote), as_json)


def _require_at_least(least: int, **numbers: int | None) -> None:
    from fleetcast.errors import UsageError

    for name, number in numbers.items():
        if number is not None and number < least:
            raise UsageError(f"--{name.replace('_', '-')} is {number}; give at least {least}")


def _require_above_0(**sizes: float | None) -> None:
    from fleetcast.errors import UsageError

    for name, size in sizes.items():
        if size is not None and not size > 0:
            raise UsageError(f"--{name.replace('_', '-')} is {size:g}; give more than 0")


def train_and_calibrate(options: Any, promote: bool) -> dict[str, Any]:
    """Train, fit the calibration of the risk on the validation part, and make the bundle current."""
    from fleetcast.dataset.reader import Dataset
    from fleetcast.model.manifest import load_manifest
    from fleetcast.model.registry import promote as make_current
    from fleetcast.runtime import connect
    from fleetcast.settings import Settings
    from fleetcast.training.plan import make_plan
    from fleetcast.training.progress import TrainingProgress
    from fleetcast.training.run import train as run_training

    calibration = ""

    def finish(bundle: Path) -> None:
        nonlocal calibration
        calibration = _calibrate(bundle, options.data)
        if promote:
            make_current(options.models, bundle.parent.name)

    options = options.model_copy(update={"promote": promote})
    make_plan(options, Dataset.open(options.data).manifest)  # says what is wrong before Ray is started
    say(f"training on {options.data}")
    connect(Settings().ray, log_to_driver=False)
    with TrainingProgress() as progress:
        bundle = run_training(options, progress.report, finish)
    manifest = load_manifest(bundle)
    best = manifest.training["best"]
    return {
        "bundle": str(bundle),
        "current": promote,
        "parameters": manifest.parameters,
        "members": manifest.members,
        "targets": manifest.targets,
        "cutoff": manifest.cutoff.isoformat(),
        "best_epoch": best["epoch"],
        "validation_loss": best["validation_loss"],
        "validation_by_target": best["validation_by_target"],
        "validation_unit": "ratio to the untrained base" if manifest.network.head == "floor" else "window scales",
        "risk_calibration": calibration,
    }


def _calibrate(bundle: Path, data: str) -> str:
    """Fit the risk's calibration on origins of the validation part; says what it was fitted on."""
    from datetime import datetime, timedelta

    from fleetcast.contract.vocabulary import STEP_SECONDS
    from fleetcast.dataset.reader import Dataset
    from fleetcast.errors import EvaluationError
    from fleetcast.evaluation.calibrate import attach_spread, calibrate_bundle
    from fleetcast.model.manifest import load_manifest
    from fleetcast.risk.probability import HORIZONS
    from fleetcast.windows.arrays import arrays_of_some

    manifest, dataset = load_manifest(bundle), Dataset.open(data)
    some_servers = arrays_of_some(dataset, SPREAD_SERVERS)
    attach_spread(bundle, some_servers.until(some_servers.index_of(manifest.cutoff)))
    del some_servers
    stride = timedelta(seconds=STEP_SECONDS * CALIBRATION_STRIDE)
    first = datetime.fromisoformat(manifest.training["validation_start"])
    last = manifest.cutoff - timedelta(seconds=STEP_SECONDS * max(HORIZONS.values()))
    origins = [first + number * stride for number in range(int((last - first) / stride) + 1)] if last >= first else []
    if not origins:
        return "none: the validation part is shorter than 8 h"
    servers = len(dataset.manifest.servers)
    some = f" on {CALIBRATION_SERVERS} of {servers:,} servers" if servers > CALIBRATION_SERVERS else ""
    say(f"calibrating the risk on {len(origins)} origins{some and ',' + some.removeprefix(' on')}")
    try:
        calibration = calibrate_bundle(
            bundle,
            arrays_of_some(dataset, CALIBRATION_SERVERS),
            origins,
            labels=dataset.incidents(),
            remediated=dataset.remediations(),
            topology=dataset.topology(),
            quiet_share=min(1.0, QUIET_WINDOWS / (len(origins) * min(servers, CALIBRATION_SERVERS))),
        )
    except EvaluationError as error:
        return f"none: {error}"
    return (
        ", ".join(
            f"{name}: {line.events} of {line.windows} by the {'fitted model' if name in calibration.spread else 'line'}"
            f" ({calibration.incidents.get(name, 0)} incidents)"
            for name, line in calibration.horizons.items()
        )
        + some
    )
