"""What a person asks of a training."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
CHECKPOINT_SECONDS = 120.0
GPU_LOADERS = 2


class TrainOptions(BaseModel):
    """Arguments of `fleetcast train`; None takes the preset's or the data's default."""

    data: str = Field(description="path or URI of the dataset")
    models: str = Field(description="folder of the runs and bundles")
    run: str | None = Field(None, description="name of the run; None makes one from the time")
    resume: bool = Field(False, description="go on with the run of this name")
    preset: str = "default"
    targets: tuple[str, ...] | None = None
    context: int | None = Field(None, description="encoder length, steps")
    horizon: int | None = Field(None, description="decoder length, steps")
    levels: tuple[float, ...] | None = None
    cutoff: datetime | None = Field(None, description="last time stamp that training may see")
    holdout: timedelta | None = Field(None, description="span at the end that training may not see")
    workers: int | None = Field(None, ge=1, description="training workers; None is one a core, at most 2")
    gpus_per_worker: float = Field(0.0, ge=0, le=1, description="share of a GPU that each worker takes")
    precision: str = Field("32-true", description="Lightning's name: 32-true, bf16-mixed, 16-mixed (GPUs only)")
    loader_threads: int | None = Field(
        None, ge=0, description="threads of each worker that make batches ahead; None is GPU_LOADERS with a GPU, else 0"
    )
    epochs: int | None = Field(None, ge=1)
    samples_per_epoch: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    members: int | None = Field(None, ge=1, description="networks that are trained one after another")
    seed: int = 0
    storage: str | None = Field(None, description="folder or URI that all nodes reach, for checkpoints")
    promote: bool = Field(True, description="whether the command line makes the new bundle the current one")
    checkpoint_seconds: float = Field(CHECKPOINT_SECONDS, gt=0, description="wall time between checkpoints")

    @property
    def threads(self) -> int:
        """Loader threads of each worker; a processor that trains has no time to spare for others."""
        return GPU_LOADERS * (self.gpus_per_worker > 0) if self.loader_threads is None else self.loader_threads

    def command(self, run: str) -> str:
        """The command line that starts or goes on with the run of this name, from any folder."""
        given = self.model_copy(update={"run": run, "models": str(Path(self.models).absolute()), "resume": False})
        words = ["fleetcast", "train"]
        for name, field in type(self).model_fields.items():
            value = getattr(given, name)
            flag = "quantiles" if name == "levels" else name.replace("_", "-")
            if value != field.default:
                words += ["--no-promote"] if name == "promote" else [f"--{flag}", _text(value)]
        return shlex.join(words)


def _text(value: Any) -> str:
    """An option's value as the command line reads it."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        minutes = value.total_seconds() / 60
        return f"{minutes / 60:g}h" if minutes % 60 == 0 else f"{minutes:g}m"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
