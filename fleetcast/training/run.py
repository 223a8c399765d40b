"""A training run from start to bundle: its folder, its lock, its records, the best checkpoint."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import FleetCastError, TrainingError, UsageError
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import BundleManifest
from fleetcast.model.network import ForecastNetwork
from fleetcast.operate.locks import hold
from fleetcast.training.checkpoint import AVERAGE, BEST, LAST, CheckpointStore, part
from fleetcast.training.fit import Report, fit, resources
from fleetcast.training.folder import CHECKPOINTS, RunFolder
from fleetcast.training.log import RunLog
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan, make_plan

logger = logging.getLogger(__name__)


def train(options: TrainOptions, report: Report, finish: Callable[[Path], None] | None = None) -> Path:
    """Train as asked and return the path of the new bundle. Ray must be connected.

    An unfinished run of the same name and identity is gone on with, from its last checkpoint. `finish` is called with
    the bundle before the run counts as finished. With `options.resume` a finished run is finished once more and its
    bundle returned.

    `report` gets dicts about once a second; `kind` is `start`, `workers`, `training`, `eager`, `step`, `epoch`,
    `slow`, `waiting`, `restart`, `stopping`, `saved`, `stopped`, `failed` or `bundle`. The run's folder keeps them
    (`docs/training.md`).

    Raises `RunLockedError` when another process trains this run, `TrainingError`, `UsageError`, `ContractError` or
    `IncompatibleError` (both sides named) when the run cannot start; nothing is left behind then. `KeyboardInterrupt`
    after Ctrl-C, with a checkpoint written.
    """
    plan = make_plan(options, Dataset.open(options.data).manifest)
    folder = RunFolder(Path(options.models).absolute() / _name(options))
    if options.resume and folder.read() is None:
        raise UsageError(f"there is no run {folder.path.name!r} in {options.models} to resume")
    workers = _workers(options)
    with _made(folder.path), hold(folder.lock):
        known = folder.read()
        if known is not None:
            plan.require_identity(known["identity"], f"the run {folder.path.name!r}")
            if known.get("finished") and not options.resume:
                raise TrainingError(
                    f"the run {folder.path.name!r} is there already and finished, its bundle is {folder.bundle}: take "
                    "another name to train anew"
                )
        content = {
            "options": options.model_dump(mode="json"),
            "identity": plan.identity(),
            "command": options.command(folder.path.name),
        }
        folder.remove_partial()
        folder.write(content)
        with RunLog(folder) as log:
            _train(_Run(plan, options, folder, workers, _Teller(log, report)), resumes=known is not None)
        if finish is not None:
            finish(folder.bundle)
        folder.write({**content, "finished": datetime.now(UTC).isoformat()})
    return folder.bundle


class _Teller:
    """Keeps each message in the run's records and hands it on."""

    def __init__(self, log: RunLog, report: Report) -> None:
        self.log, self.report = log, report

    def __call__(self, message: dict[str, Any]) -> None:
        self.log.write(message)
        try:
            self.report(message)
        except Exception:
            logger.exception("the progress could not be shown; the training goes on")


class _Run:
    """What belongs to one run."""

    def __init__(self, plan: TrainPlan, options: TrainOptions, folder: RunFolder, workers: int, tell: _Teller) -> None:
        self.plan, self.options, self.folder, self.workers, self.tell = plan, options, folder, workers, tell
        name = folder.path.name
        place = f"{options.storage.rstrip('/')}/{name}" if options.storage else str(folder.path / CHECKPOINTS)
        self.store = CheckpointStore(place)


def _train(run: _Run, resumes: bool) -> None:
    """From the last checkpoint, or from the start, to the bundle in the run's folder."""
    if run.folder.bundle.exists():
        return
    command = run.options.command(run.folder.path.name)
    try:
        if not resumes:
            run.store.clear()
        run.store.remove_partial()
        last = run.store.read(LAST)
        run.tell(
            {
                "kind": "start",
                "run": run.folder.path.name,
                "folder": str(run.folder.path),
                "resumes": last is not None,
                "step": last[1]["steps_done"] if last else 0,
                "command": command,
            }
        )
        fit(run.plan, run.options, run.workers, run.store.storage.reference, run.tell)
        _make_bundle(run)
        run.tell({"kind": "bundle", "bundle": str(run.folder.bundle)})
    except FleetCastError as error:
        run.tell({"kind": "failed", "reason": str(error)})
        raise
    except KeyboardInterrupt:
        run.tell({"kind": "stopped", "command": command})
        raise


def _name(options: TrainOptions) -> str:
    name = options.run if options.run is not None else datetime.now(UTC).strftime("run-%Y%m%d-%H%M%S-%f")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) or name == "current":
        raise UsageError(f"the run's name {name!r} must be of letters, digits, '.', '_' and '-', and not 'current'")
    return name


@contextmanager
def _made(path: Path) -> Iterator[None]:
    """The folder, with its parents; those made here go again when an error leaves them empty.

    Raises `TrainingError` when the disk refuses it or a file in it.
    """
    fresh = [place for place in (path, *path.parents) if not place.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise TrainingError(f"the run's folder {path} cannot be written: {error}") from error
    finally:
        for place in fresh:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def _workers(options: TrainOptions) -> int:
    """Number of workers. Raises `UsageError` when this machine lacks cores or GPUs for them; a cluster may grow."""
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    workers = options.workers or max(1, min(2, int(available.get("CPU", 1))))
    for kind, amount in resources(options).items():
        if amount * workers > available.get(kind, 0) and "RAY_ADDRESS" not in os.environ:
            raise UsageError(f"{workers} workers need {amount * workers:g} {kind}, Ray has {available.get(kind, 0):g}")
    return workers


def _make_bundle(run: _Run) -> None:
    best = run.store.read(BEST)
    if best is None:
        raise TrainingError(
            f"the training ended, but {run.store.storage.location} has no {BEST}: on a cluster give --storage a folder "
            "or URI that all nodes reach"
        )
    tensors, state = best
    plan = run.plan
    manifest = BundleManifest(
        run=run.folder.path.name,
        created=datetime.now(UTC),
        preset=plan.preset,
        targets=plan.window.targets,
        features=plan.window.features,
        levels=plan.window.levels,
        context=plan.window.context,
        horizon=plan.window.horizon,
        window=plan.window.model_dump(mode="json"),
        network=plan.network,
        cutoff=plan.cutoff,
        timezone=plan.timezone,
        parameters=ForecastNetwork(plan.network).parameter_count,
        data_fingerprint=plan.fingerprint,
        training={
            "validation_start": plan.validation_start.isoformat(),
            "epochs": plan.epochs,
            "samples_per_epoch": plan.samples_per_epoch,
            "batch_size": plan.batch_size,
            "learning_rate": plan.learning_rate,
            "seed": plan.seed,
            "best": state["metrics"],
        },
    )
    Bundle(manifest, part(tensors, AVERAGE)).save(run.folder.bundle)
