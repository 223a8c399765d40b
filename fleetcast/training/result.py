"""What a training leaves: the best checkpoints as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from fleetcast.errors import TrainingError
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import BundleManifest
from fleetcast.model.members import joined
from fleetcast.model.network import ForecastNetwork
from fleetcast.training.checkpoint import AVERAGE, BEST, CheckpointStore, State, Tensors, part
from fleetcast.training.folder import RunFolder
from fleetcast.training.plan import TrainPlan


def make_bundle(plan: TrainPlan, stores: Sequence[CheckpointStore], folder: RunFolder) -> None:
    """Write the averaged weights of each member's best epoch into the run's folder.

    Raises `TrainingError` when a checkpoint is missing, `BundleError` when the bundle cannot be written.
    """
    best = [_best(store) for store in stores]
    manifest = BundleManifest(
        run=folder.path.name,
        created=datetime.now(UTC),
        preset=plan.preset,
        targets=plan.window.targets,
        features=plan.window.features,
        levels=plan.window.levels,
        context=plan.window.context,
        horizon=plan.window.horizon,
        window=plan.window.model_dump(mode="json"),
        network=plan.network,
        members=plan.members,
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
            "best": _summary([state["metrics"] for _, state in best]),
        },
    )
    Bundle(manifest, joined([part(tensors, AVERAGE) for tensors, _ in best])).save(folder.bundle)


def _best(store: CheckpointStore) -> tuple[Tensors, State]:
    best = store.read(BEST)
    if best is None:
        raise TrainingError(
            f"the training ended, but {store.storage.location} has no {BEST}: on a cluster give --storage a folder "
            "or URI that all nodes reach"
        )
    return best


def _summary(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of the best epochs; of several members the means of their losses, and each one's beside them."""
    if len(members) == 1:
        return members[0]
    targets = members[0]["validation_by_target"]
    return {
        "epoch": [metrics["epoch"] for metrics in members],
        "validation_loss": fmean(metrics["validation_loss"] for metrics in members),
        "validation_by_target": {
            name: fmean(metrics["validation_by_target"][name] for metrics in members) for name in targets
        },
        "members": list(members),
    }
