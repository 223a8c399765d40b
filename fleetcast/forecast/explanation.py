"""What an explanation of one server's forecast says; read without torch."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field


class Attended(BaseModel):
    """The share of the attention that one encoder token gets, 0-1. Steps count from the origin, which is 0."""

    model_config = ConfigDict(frozen=True)

    first_step: int
    last_step: int
    start: datetime = Field(description="UTC time of the first step")
    end: datetime = Field(description="UTC time of the last step")
    share: float

    @property
    def steps(self) -> int:
        """Number of 5-minute steps that the token holds."""
        return self.last_step - self.first_step + 1


class Attribution(BaseModel):
    """Weights of one forecast.

    `static`, `encoder` and `decoder` hold the variables' selection weights, the largest first; each adds up to 1. Those
    of the encoder and the decoder are means over their tokens, as pytorch-forecasting's `interpret_output` has them.
    `past` and `ahead` (what the network attends to in the horizon's own steps) add up to 1; they are means over the
    heads and the tokens of the horizon.
    """

    model_config = ConfigDict(frozen=True)

    static: dict[str, float]
    encoder: dict[str, float]
    decoder: dict[str, float]
    past: tuple[Attended, ...] = Field(description="by encoder token, oldest first")
    ahead: float


class Driver(BaseModel):
    """One metric's effect on the peak of a target, in the target's unit.

    `effect` is the peak as it is minus the peak `without`: had the metric been at its usual level. Above 0 it drives
    the target up, below 0 it holds it down.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    effect: float
    without: float
    edited: int = Field(description="samples that were replaced")


class Drivers(BaseModel):
    """The drivers of one target, the largest effect of either sign first; metrics without an effect are left out."""

    model_config = ConfigDict(frozen=True)

    target: str
    unit: str = Field(description='UCUM; "1" is a ratio')
    level: float = Field(description="quantile level whose peak over the horizon is explained")
    peak: float
    peak_step: int = Field(description="steps of 5 minutes after the origin")
    hours: float = Field(description="so much of each metric's past was replaced by its usual level")
    drivers: tuple[Driver, ...]


class Explanation(BaseModel):
    """The explanation of one server's forecast from one origin.

    Only a forecast of the model has `weights` and `drivers`; for another `note` says that the model did not make it,
    and why.
    """

    model_config = ConfigDict(frozen=True)

    server: str
    profile: str
    origin: datetime
    model: str = Field(description="the run that made the bundle")
    source: str = Field(description="what made the forecast: model, fallback or none")
    note: str
    weights: Attribution | None = None
    drivers: tuple[Drivers, ...] = Field((), description="by target")
