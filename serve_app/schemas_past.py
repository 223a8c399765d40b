"""What the API answers of cycles that have been: stored forecasts and risks."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from serve_app.schemas import FleetItem, ForecastSource, Level, ModelName


class RiskPoint(BaseModel):
    """The risk of a server as one past cycle saw it."""

    origin: datetime
    level: Level = Field(description="the level held, as alerts saw it")
    score: float | None
    p_30m: float | None
    p_2h: float | None
    p_8h: float | None
    open: bool
    metric: str | None
    source: ForecastSource
    reason: str


class ServerRisk(BaseModel):
    """The last cycle's risk of a server, and those of the last hours, oldest first."""

    server: str
    origin: datetime
    model: ModelName
    now: FleetItem
    past: list[RiskPoint]


class StoredMetric(BaseModel):
    """Quantiles of a metric at the steps that are kept; keys of `quantiles` are levels ("0.1"), None: no forecast."""

    source: ForecastSource
    reason: str
    steps: list[int]
    timestamps: list[datetime]
    quantiles: dict[str, list[float | None]]


class StoredForecast(BaseModel):
    """A server's stored forecast by metric."""

    server: str
    profile: str
    metrics: dict[str, StoredMetric]


class ForecastPage(BaseModel):
    """What was forecast at a time: of `total` servers the page asked for."""

    origin: datetime
    model: ModelName
    whole: bool = Field(description="all steps are kept; else chosen horizons only")
    total: int
    items: list[StoredForecast]
