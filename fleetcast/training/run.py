"""A training run from start to bundle: its folder, its lock, Ray Train, the best checkpoint."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray.train import CheckpointConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue
from safetensors.torch import load as load_tensors

from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.errors import TrainingError, UsageError
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import BundleManifest
from fleetcast.model.network import ForecastNetwork
from fleetcast.operate.locks import hold
from fleetcast.training.checkpoint import AVERAGE
from fleetcast.training.options import TrainOptions
from fleetcast.training.plan import TrainPlan, make_plan
from fleetcast.training.worker import train_worker

Report = Callable[[dict[str, Any]], None]

logger = logging.getLogger(__name__)

RUN_FILE, BUNDLE = "run.json", "bundle"
RETRIES = 2


def train(options: TrainOptions, report: Report) -> Path:
    """Train as asked and return the path of the new bundle. Ray must be connected.

    Resuming a run that is finished returns the bundle that is there.

    `report` gets a dict a second: kind `step` or `epoch`, see `callbacks`.

    Raises `RunLockedError` when another process trains this run, `TrainingError`, `UsageError`, `ContractError` or
    `IncompatibleError` (both sides named) when the run cannot start; nothing is left behind then.
    """
    plan = make_plan(options, Dataset.open(options.data).manifest)
    name = options.run if options.run is not None else datetime.now(UTC).strftime("run-%Y%m%d-%H%M%S-%f")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name) or name == "current":
        raise UsageError(f"the run's name {name!r} must be of letters, digits, '.', '_' and '-', and not 'current'")
    folder = Path(options.models).absolute() / name
    existed = folder.exists()
    if options.resume and not (folder / RUN_FILE).exists():
        raise UsageError(f"there is no run {name!r} in {options.models} to resume")
    workers = _workers(options)
    folder.mkdir(parents=True, exist_ok=True)
    with hold(folder / "run.lock"):
        if existed and not options.resume and (folder / RUN_FILE).exists():
            raise TrainingError(
                f"the run {name!r} is there already: add --resume to go on with it, or take another name"
            )
        if options.resume:
            plan.require_identity(json.loads((folder / RUN_FILE).read_text())["identity"], f"the run {name!r}")
        if (folder / BUNDLE).exists():
            return folder / BUNDLE
        _write_run(folder, plan, options)
        result = _fit(plan, options, folder, workers, report)
        return _make_bundle(plan, result, folder)


def _write_run(folder: Path, plan: TrainPlan, options: TrainOptions) -> None:
    content = {"options": options.model_dump(mode="json"), "identity": plan.identity()}
    Storage(folder).write_bytes(RUN_FILE, json.dumps(content, indent=1).encode())


def _workers(options: TrainOptions) -> int:
    """Number of workers. Raises `UsageError` when this machine lacks cores or GPUs for them; a cluster may grow."""
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    workers = options.workers or max(1, min(2, int(available.get("CPU", 1))))
    for kind, amount in _resources(options).items():
        if amount * workers > available.get(kind, 0) and "RAY_ADDRESS" not in os.environ:
            raise UsageError(f"{workers} workers need {amount * workers:g} {kind}, Ray has {available.get(kind, 0):g}")
    return workers


def _resources(options: TrainOptions) -> dict[str, float]:
    """What each worker takes."""
    return {"CPU": 1.0, **({"GPU": options.gpus_per_worker} if options.gpus_per_worker else {})}


def _fit(plan: TrainPlan, options: TrainOptions, folder: Path, workers: int, report: Report) -> Result:
    queue = Queue(actor_options={"num_cpus": 0})
    gpu = options.gpus_per_worker > 0
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"plan": plan.model_dump_json(), "queue": queue},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=_resources(options)),
        run_config=RunConfig(
            name=folder.name,
            storage_path=options.storage or str(folder / "ray"),
            failure_config=FailureConfig(max_failures=RETRIES),
            checkpoint_config=CheckpointConfig(
                num_to_keep=2, checkpoint_score_attribute="validation_loss", checkpoint_score_order="min"
            ),
        ),
    )
    done = threading.Event()
    listener = threading.Thread(target=_listen, args=(queue, report, done), daemon=True)
    listener.start()
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise TrainingError(_root_message(error)) from error
    except SystemExit as stop:  # Ray's answer to Ctrl-C
        raise KeyboardInterrupt from stop
    finally:
        done.set()
        listener.join(timeout=10)
        queue.shutdown()


def _listen(queue: Queue, report: Report, done: threading.Event) -> None:
    """Hand the workers' messages to `report` until the training is over and the queue empty."""
    while True:
        try:
            message = queue.get(timeout=0.5)
        except Empty:
            if done.is_set():
                return
            continue
        except ray.exceptions.RayError:
            return
        try:
            report(message)
        except Exception:
            logger.exception("the progress could not be shown; the training goes on")


def _root_message(error: BaseException) -> str:
    """One line of what went wrong in a worker."""
    text = str(error).strip() or repr(error)
    lines = [line.strip() for line in text.splitlines() if "Error" in line]
    return f"the training failed: {lines[-1] if lines else text.splitlines()[-1]}"


def _make_bundle(plan: TrainPlan, result: Result, folder: Path) -> Path:
    best = result.get_best_checkpoint("validation_loss", "min")
    if best is None:
        raise TrainingError("the training ended without a checkpoint")
    scored = next(metrics for checkpoint, metrics in result.best_checkpoints or [] if checkpoint.path == best.path)
    with best.filesystem.open_input_stream(f"{best.path}/{AVERAGE}") as stream:
        weights = load_tensors(stream.read())
    manifest = BundleManifest(
        run=folder.name,
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
            "best": scored,
        },
    )
    Bundle(manifest, weights).save(folder / BUNDLE)
    return folder / BUNDLE
