"""Checkpoints without pickle: tensors as safetensors, the rest as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fleetcast.training.module import ForecastModule

NETWORK, AVERAGE, OPTIMIZER, STATE = "network.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"


def write_checkpoint(folder: Path, module: ForecastModule, metrics: dict[str, Any]) -> None:
    """Write the network, its average, the optimizer's moments and the progress into an empty folder."""
    save_file(_own(module.network.state_dict()), folder / NETWORK)
    save_file(_own(module.average.module.state_dict()), folder / AVERAGE)
    optimizer = module.trainer.optimizers[0]
    moments = {
        f"{number}.{name}": torch.as_tensor(value)
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }
    save_file(_own(moments), folder / OPTIMIZER)
    state = {
        "identity": module.plan.identity(),
        "steps_done": module.steps_done,
        "epochs_done": module.epochs_done,
        "metrics": metrics,
    }
    (folder / STATE).write_text(json.dumps(state, indent=1))


def read_state(folder: Path) -> dict[str, Any]:
    """The progress that a checkpoint tells of."""
    return dict(json.loads((folder / STATE).read_text()))


def restore(folder: Path, module: ForecastModule) -> None:
    """Load network, average and progress; the optimizer's moments follow in `restore_optimizer`.

    Raises `IncompatibleError` when the checkpoint is of other data, windows or network.
    """
    state = read_state(folder)
    module.plan.require_identity(state["identity"], f"the checkpoint {folder.name}")
    module.network.load_state_dict(load_file(folder / NETWORK))
    module.average.module.load_state_dict(load_file(folder / AVERAGE))
    module.steps_done, module.epochs_done = state["steps_done"], state["epochs_done"]
    module.average.n_averaged.fill_(1)


def restore_optimizer(folder: Path, optimizer: torch.optim.Optimizer) -> None:
    """Load the optimizer's moments into a new optimizer of the same network."""
    current = optimizer.state_dict()
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / OPTIMIZER).items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": states, "param_groups": current["param_groups"]})


def _own(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous copies that share no memory, as safetensors wants them."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
