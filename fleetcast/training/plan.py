"""From options and a dataset to all that a training fixes before it starts."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ValidationError

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.contract.metrics import default_targets, in_contract_order
from fleetcast.contract.vocabulary import PROFILES, QUANTILE_LEVELS, STATES, STEP_SECONDS, STEPS_PER_HOUR, VERSION
from fleetcast.dataset.manifest import Manifest
from fleetcast.errors import IncompatibleError, TrainingError, UsageError
from fleetcast.model.config import PRESETS, REFERENCE_PARAMETERS, NetworkConfig, Preset
from fleetcast.model.members import member_seed
from fleetcast.training.options import CHECKPOINT_SECONDS, PRECISIONS, TrainOptions
from fleetcast.windows.spec import ANCHORS, WindowSpec

HOLDOUT_SHARE = 0.1
VALIDATION_SHARE, VALIDATION_MOST = 0.1, timedelta(days=2)  # short: the latest days are worth most in training


class TrainPlan(BaseModel):
    """The windows, the network, the split in time and the length of a training; plain data, sent to the workers."""

    data: str
    fingerprint: str
    preset: str
    window: WindowSpec
    network: NetworkConfig
    start: datetime
    validation_start: datetime
    cutoff: datetime
    timezone: str
    epochs: int
    samples_per_epoch: int
    batch_size: int
    learning_rate: float
    average_decay: float
    members: int = 1
    seed: int
    precision: str = "32-true"
    loader_threads: int = 0
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    def of_member(self, number: int) -> TrainPlan:
        """The plan of one of the networks: the same, but for its seed."""
        return self.model_copy(update={"seed": member_seed(self.seed, number)})

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must share with this plan to be resumed."""
        contract = {"version": VERSION, "step_seconds": STEP_SECONDS, "profiles": PROFILES, "states": STATES}
        return {
            "contract": json.loads(json.dumps(contract)),
            "data": self.fingerprint,
            "cutoff": self.cutoff.isoformat(),
            "window": self.window.model_dump(mode="json"),
            "network": self.network.model_dump(mode="json"),
        }

    def require_identity(self, found: dict[str, Any], name: str) -> None:
        """Raise `IncompatibleError` naming both sides of every difference to a checkpoint's identity."""
        differences = []
        for part, ours in self.identity().items():
            theirs = found.get(part)
            if isinstance(ours, dict) and isinstance(theirs, dict):
                keys = [key for key in ours if ours[key] != theirs.get(key)]
                differences += [(f"{part}.{key}", ours[key], theirs.get(key)) for key in keys]
            elif ours != theirs:
                differences.append((part, ours, theirs))
        if differences:
            raise IncompatibleError("the training asked for", name, differences)


def make_plan(options: TrainOptions, manifest: Manifest) -> TrainPlan:
    """Fix a training.

    Raises `UsageError` for arguments that cannot be, `ContractError` when the dataset has no target, and
    `TrainingError` that says how much is missing when it is too short.
    """
    _require_precision(options)
    preset = _preset(options.preset)
    window = _window(options, preset, manifest)
    require_fit(this_contract(window.features), manifest.side(f"the dataset {options.data}"))
    cutoff = _cutoff(options, manifest)
    span = cutoff - manifest.start
    validation = _validation_span(span, window.horizon)
    validation_start = cutoff - _whole_steps(validation)
    needed = timedelta(seconds=STEP_SECONDS * (window.context + window.horizon + STEPS_PER_HOUR))
    if validation_start - manifest.start < needed:
        raise TrainingError(
            f"too little data: windows of {window.context} + {window.horizon} steps need {_hours(needed + validation)} "
            f"up to the cutoff {cutoff.isoformat()}, the dataset has {_hours(span)}; "
            f"{_hours(needed + validation - span)} are missing (or ask for a shorter --context or --horizon)"
        )
    network = network_for(window, preset)
    return TrainPlan(
        data=options.data,
        fingerprint=manifest.fingerprint,
        preset=options.preset,
        window=window,
        network=network,
        start=manifest.start,
        validation_start=validation_start,
        cutoff=cutoff,
        timezone=manifest.timezone,
        epochs=options.epochs or preset.epochs,
        samples_per_epoch=options.samples_per_epoch or preset.samples_per_epoch,
        batch_size=options.batch_size or preset.batch_size,
        learning_rate=options.learning_rate or preset.learning_rate,
        average_decay=preset.average_decay,
        members=options.members or preset.members,
        seed=options.seed,
        precision=options.precision,
        loader_threads=options.threads,
        checkpoint_seconds=options.checkpoint_seconds,
    )


def _validation_span(span: timedelta, horizon: int) -> timedelta:
    """The part of the span before the cutoff that is held out of training: two horizons at least."""
    return max(min(span * VALIDATION_SHARE, VALIDATION_MOST), timedelta(seconds=STEP_SECONDS * 2 * horizon))


def network_for(window: WindowSpec, preset: Preset) -> NetworkConfig:
    """The preset's network with the inputs of these windows."""
    variables = window.variables
    return NetworkConfig(
        encoder_tokens=len(window.pools),
        decoder_tokens=window.decoder_tokens,
        decoder_pool=window.decoder_pool,
        targets=len(window.targets),
        levels=window.levels,
        anchors=len(ANCHORS) if window.day_lags and preset.network.get("head", "floor") == "floor" else 0,
        reals=variables.reals,
        **variables.model_dump(),
        **preset.network,
    )


def check_parameters(preset: str, parameters: int) -> None:
    """The `reference` preset has exactly 87,080 parameters (domain facts); raises `TrainingError` otherwise."""
    if preset == "reference" and parameters != REFERENCE_PARAMETERS:
        raise TrainingError(f"the reference preset must have {REFERENCE_PARAMETERS:,} parameters, got {parameters:,}")


def _require_precision(options: TrainOptions) -> None:
    if options.precision not in PRECISIONS:
        raise UsageError(f"unknown precision {options.precision!r}; there are {', '.join(PRECISIONS)}")
    if options.precision == "16-mixed" and not options.gpus_per_worker:
        raise UsageError("the precision 16-mixed needs GPUs: add --gpus-per-worker 1, or take bf16-mixed or 32-true")


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def _window(options: TrainOptions, preset: Preset, manifest: Manifest) -> WindowSpec:
    targets = options.targets or preset.targets or default_targets(manifest.metrics)
    targets = in_contract_order(targets)
    features = preset.features or tuple(manifest.metrics)
    missing = [name for name in (*targets, *(preset.features or ())) if name not in manifest.metrics]
    if missing:
        raise TrainingError(
            f"the dataset lacks {', '.join(missing)}: choose --targets among what it has, {', '.join(manifest.metrics)}"
        )
    fields: dict[str, Any] = {
        **preset.window,
        "targets": targets,
        "features": in_contract_order((*features, *targets)),
        "levels": tuple(sorted(options.levels or QUANTILE_LEVELS)),
    }
    for name in ("context", "horizon"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    try:
        return WindowSpec(**fields)
    except ValidationError as error:
        raise UsageError("; ".join(str(problem["msg"]) for problem in error.errors())) from error


def _cutoff(options: TrainOptions, manifest: Manifest) -> datetime:
    if options.cutoff is not None and options.holdout is not None:
        raise UsageError("give --cutoff or --holdout, not both")
    if options.cutoff is not None:
        if not manifest.start < options.cutoff <= manifest.end:
            raise UsageError(
                f"cutoff {options.cutoff.isoformat()} lies outside the data, "
                f"{manifest.start.isoformat()} to {manifest.end.isoformat()}"
            )
        return manifest.start + _whole_steps(options.cutoff - manifest.start)
    span = manifest.end - manifest.start
    holdout = options.holdout if options.holdout is not None else span * HOLDOUT_SHARE
    return manifest.end - _whole_steps(holdout)


def _whole_steps(span: timedelta) -> timedelta:
    return timedelta(seconds=int(span.total_seconds()) // STEP_SECONDS * STEP_SECONDS)


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"
