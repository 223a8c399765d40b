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
from fleetcast.operate.locks import hold
from fleetcast.training.checkpoint import LAST, CheckpointStore
from fleetcast.training.fit import Report, fit, resources
from fleetcast.training.folder import CHECKPOINTS, RunFolder
from fleetcast.training.log import RunLog
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan, make_plan
from fleetcast.training.result import make_bundle

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
        self.plans = [plan.of_member(number) for number in range(plan.members)]
        self.stores = [CheckpointStore(f"{place}/{number}" if number else place) for number in range(plan.members)]

    def progress(self) -> list[tuple[int, int]]:
        """Steps and epochs of each member that has begun."""
        states = [last[1] for last in (store.read(LAST) for store in self.stores) if last is not None]
        return [(state["steps_done"], state["epochs_done"]) for state in states]


def _train(run: _Run, resumes: bool) -> None:
    """From the last checkpoint, or from the start, to the bundle in the run's folder."""
    if run.folder.bundle.exists():
        return
    command = run.options.command(run.folder.path.name)
    try:
        for store in run.stores:
            if resumes:
                store.storage.create()  # further networks may be asked for than before
            else:
                store.clear()
            store.remove_partial()
        done = run.progress()
        first = min(sum(epochs >= run.plan.epochs for _, epochs in done), len(run.plans) - 1)
        run.tell(
            {
                "kind": "start",
                "run": run.folder.path.name,
                "folder": str(run.folder.path),
                "resumes": bool(done),
                "step": sum(steps for steps, _ in done),
                "command": command,
            }
        )
        for member in range(first, len(run.plans)):
            tell = _of_member(run.tell, member, len(run.plans))
            fit(run.plans[member], run.options, run.workers, run.stores[member].storage.reference, tell)
        make_bundle(run.plan, run.stores, run.folder)
        run.tell({"kind": "bundle", "bundle": str(run.folder.bundle)})
    except FleetCastError as error:
        run.tell({"kind": "failed", "reason": str(error)})
        raise
    except KeyboardInterrupt:
        run.tell({"kind": "stopped", "command": command})
        raise


def _of_member(tell: Report, member: int, members: int) -> Report:
    """Reports of one network as reports of them all: steps count on, and the time left is that of all."""
    if members == 1:
        return tell

    def told(message: dict[str, Any]) -> None:
        found = {**message, "member": member + 1, "members": members}
        if "steps" in message:
            steps, left = message["steps"], message.get("seconds_left")
            found |= {"step": message["step"] + member * steps, "steps": members * steps}
            if left is not None and message["step"] < steps:
                found["seconds_left"] = left * (1 + (members - member - 1) * steps / (steps - message["step"]))
        tell(found)

    return told


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
