"""What a person asks of a training."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, Field


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
    gpus_per_worker: float = Field(0.0, ge=0)
    epochs: int | None = Field(None, ge=1)
    samples_per_epoch: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    seed: int = 0
    storage: str | None = Field(None, description="folder or URI that all nodes reach, for checkpoints")
