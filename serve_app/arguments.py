"""The typed arguments of the service: all that its deployments are built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from fleetcast.clock import ClockSpec
from fleetcast.settings import (
    AlertSettings,
    CostSettings,
    MetricsSettings,
    PrometheusSettings,
    RemediationSettings,
    ServiceSettings,
)


class AppArgs(BaseModel):
    """Arguments of `serve_app.app:build`."""

    model_config = ConfigDict(extra="forbid")

    bundle: str = Field(description="folder of the model bundle")
    database: str = Field(description="SQLAlchemy URL of the service's database")
    forecasts: str | None = Field(
        None, description="folder or URI of the stored forecasts, the same for all nodes; None keeps risks only"
    )
    dataset: str | None = Field(None, description="dataset whose topology and planned maintenance the fleet has")
    clock: ClockSpec = Field(default_factory=ClockSpec, description="the one clock of the service")
    settle_s: float = Field(
        60.0,
        ge=0,
        lt=300,
        description="clock seconds that a cycle waits after a step has ended for its samples to come in",
    )
    service: ServiceSettings = Field(default_factory=ServiceSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)
    cost: CostSettings = Field(default_factory=CostSettings)
    remediation: RemediationSettings = Field(default_factory=RemediationSettings)
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)


class DashboardArgs(BaseModel):
    """Arguments of `serve_app.app:build_ui`."""

    model_config = ConfigDict(extra="forbid")

    api_url: str = Field(description="address of the API as the dashboard's process reaches it")
    certificate: str | None = Field(None, description="the API's certificate, where it has one")
    root_path: str = Field("/ui", description="path below which browsers see the dashboard")


@dataclass(frozen=True)
class Launch:
    """What `python -m serve_app` starts; with `feed` on a simulated clock that continues that dataset."""

    bundle: Path
    data: Path | None = None
    feed: Path | None = None
    clock: ClockSpec | None = None
    speed: float = 60.0
    new_key: str | None = None
