"""Checkpoints without pickle: one safetensors file each, whose metadata holds the progress as JSON.

One file is written whole or not at all, on a disk as in an object store, so a checkpoint is never half there. `last` is
what a training goes on from, `best` holds the averaged weights of the epoch with the least validation loss.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fleetcast.dataset.storage import Storage
from fleetcast.errors import DatasetError, TrainingError
from fleetcast.training.module import ForecastModule

LAST, BEST = "last.safetensors", "best.safetensors"
NETWORK, AVERAGE, OPTIMIZER = "network.", "average.", "optimizer."

Tensors = dict[str, torch.Tensor]
State = dict[str, Any]


class CheckpointStore:
    """The two checkpoints of a run, in a folder or below a URI."""

    def __init__(self, location: str) -> None:
        self.storage = Storage(location)

    def clear(self) -> None:
        """Make the folder and delete the checkpoints of an earlier run in it."""
        self.storage.create()
        for name in (LAST, BEST):
            self.storage.delete(name)

    def write(self, name: str, tensors: Tensors, state: State) -> None:
        """Replace a checkpoint. Raises `TrainingError` when it cannot be written; the old one stays then."""
        try:
            self.storage.write_bytes(name, save(tensors, {"state": json.dumps(state)}))
        except DatasetError as error:
            raise TrainingError(
                f"{error}: free some space or mend the disk; the same command then goes on from the last checkpoint"
            ) from error

    def read(self, name: str) -> tuple[Tensors, State] | None:
        """A checkpoint's tensors and state; None when it is not there. Raises `TrainingError` when it is damaged."""
        if not self.storage.exists(name):
            return None
        content = self.storage.read_bytes(name)
        try:
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            return load(content), json.loads(header["__metadata__"]["state"])
        except (SafetensorError, ValueError, KeyError) as error:
            raise TrainingError(
                f"the checkpoint {name} in {self.storage.location} is damaged ({error}): delete it and train anew"
            ) from error

    def remove_partial(self) -> None:
        """Delete what a killed worker left half written."""
        if self.storage.is_local:
            for path in Path(self.storage.root).glob(".*.partial"):
                path.unlink()


def snapshot(module: ForecastModule, optimizer: torch.optim.Optimizer) -> tuple[Tensors, State]:
    """Copies of the network, its average and the optimizer's moments, and how far the training is.

    Raises `TrainingError` when a weight is not finite: such a checkpoint would be worth nothing.
    """
    tensors = {
        **{NETWORK + name: tensor for name, tensor in module.network.state_dict().items()},
        **{AVERAGE + name: tensor for name, tensor in module.average.state_dict().items()},
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingError(f"{name} is not finite at step {module.steps_done}: lower --learning-rate")
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    return _own(tensors), {"identity": module.plan.identity(), **module.progress()}


def restore(checkpoint: tuple[Tensors, State], module: ForecastModule, name: str = LAST) -> None:
    """Load network, average and progress; the optimizer's moments follow in `restore_optimizer`.

    Raises `IncompatibleError` when the checkpoint is of other data, windows or network.
    """
    tensors, state = checkpoint
    module.plan.require_identity(state["identity"], f"the checkpoint {name}")
    module.network.load_state_dict(part(tensors, NETWORK))
    module.average.load_state_dict(part(tensors, AVERAGE))
    module.resume(state)


def restore_optimizer(tensors: Tensors, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer's moments into a new optimizer of the same network."""
    current = optimizer.state_dict()
    states: dict[int, Tensors] = {}
    for key, value in part(tensors, OPTIMIZER).items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": current["param_groups"]})


def part(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _own(tensors: Tensors) -> Tensors:
    """Contiguous copies that share no memory, as safetensors wants them."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
