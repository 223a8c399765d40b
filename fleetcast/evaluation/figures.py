"""The figures of a backtest as plain data: what `report.json` holds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

Interval = tuple[float, float]


class Figures(BaseModel):
    """Figures of one forecaster on some of the scored points of one metric; None where a figure does not exist."""

    metric: str
    forecaster: str
    points: int
    wql: float | None = Field(description="weighted quantile loss")
    pinball: float | None = Field(description="mean pinball loss over points and levels, in the metric's unit")
    mase_mean: float | None = Field(description="mean over server windows")
    mase_median: float | None = Field(description="median over servers of their mean over windows")
    coverage_80: float | None = Field(description="share of points in [q0.1, q0.9]")
    coverage_96: float | None = Field(description="share of points in [q0.02, q0.98]")
    width_80: float | None = Field(description="mean of q0.9 - q0.1, in the metric's unit")
    width_96: float | None = Field(description="mean of q0.98 - q0.02, in the metric's unit")
    peak_wql: float | None = Field(description="2 x pinball of the peak over the horizon / sum of |peak|")
    peak_pinball: float | None = Field(description="mean pinball loss of the peak over windows and levels")
    pinball_by_level: dict[str, float | None]
    peak_pinball_by_level: dict[str, float | None]
    pit: list[float] | None = Field(description="share of points in each bin of the PIT histogram, below q first")
    wql_ratio: float | None = Field(None, description="wql / that of the best rival")
    mase_ratio: float | None = Field(None, description="mase_mean / that of the best rival")
    peak_ratio: float | None = Field(None, description="peak_wql / that of the best rival")


class Row(Figures):
    """One forecaster on one metric, all servers and leads."""

    wql_interval: Interval | None = Field(None, description="95 % bootstrap interval over servers")
    mase_interval: Interval | None = Field(None, description="95 % bootstrap interval over servers")
    fallback_share: float | None = Field(description="share of server windows forecast by the fallback; model only")


class Slice(Figures):
    """One forecaster on one metric, for a profile, a bucket of leads, or servers seen in training or not.

    A bucket of leads has no peak: the peak is that of the whole horizon.
    """

    axis: str = Field(description="`profile`, `lead` or `servers`")
    name: str


class Scope(BaseModel):
    """What a metric was scored on."""

    metric: str
    servers: int = Field(description="servers with at least one scored point")
    points: int
    unscored: int = Field(description="points with a sample that not every forecaster had a forecast for")


class Ratio(BaseModel):
    """The model's figures over a rival's, below 1 where the model is better; intervals are bootstrapped, 95 %."""

    wql_ratio: float | None
    wql_interval: Interval | None
    mase_ratio: float | None
    mase_interval: Interval | None
    peak_ratio: float | None = Field(None, description="of the weighted quantile losses of the peak")


class MetricRatio(Ratio):
    """On one metric."""

    metric: str


class Comparison(Ratio):
    """The model against one rival: geometric means over the metrics of the ratios model / rival."""

    rival: str
    is_limit: bool = Field(False, description="a yardstick of what is possible, no rival to beat")
    closed: float | None = Field(
        None, description="share of the distance from this rival to the oracle that the model closes, in WQL"
    )
    metrics: list[MetricRatio]


class Section(BaseModel):
    """A part of a report that another scoring adds: text, a table, and its figures as data."""

    title: str
    text: list[str] = Field(default_factory=list, description="paragraphs before the table")
    headings: list[str] = Field(default_factory=list)
    rows: list[list[str]] = Field(default_factory=list, description="cells as shown")
    images: list[str] = Field(default_factory=list, description="PNG files beside the report")
    data: dict[str, Any] = Field(default_factory=dict, description="the same figures for machines")


class BacktestReport(BaseModel):
    """All figures of a backtest."""

    windows: int
    stride: int
    horizon: int
    purge: int = Field(description="steps between the last origin fitted on and the first scored")
    servers: int
    levels: list[float]
    origins: list[datetime]
    scopes: list[Scope]
    rows: list[Row] = Field(description="by metric; the model first, then the rivals")
    slices: list[Slice] = Field(description="by profile, by bucket of leads, by servers seen in training or not")
    comparisons: list[Comparison]
    best_rival: str | None = Field(description="the rival that the model's geometric mean ratio in WQL is highest to")
    unseen_share: float | None = Field(description="share of the servers that training never saw; None is unknown")
    pit_expected: list[float] = Field(description="the PIT histogram of a calibrated forecast")
    sources: dict[str, int] = Field(description="server windows by source of the model's forecast")
    reasons: dict[str, int] = Field(description="server windows by reason why the model did not forecast")
    notes: list[str]
    about: dict[str, str] = Field(default_factory=dict, description="which model and data, as the caller names them")
    fingerprint: str = Field("", description="of the dataset")
    sections: list[Section] = Field(default_factory=list, description="what other scorings add")

    def rows_of(self, metric: str) -> list[Row]:
        """The rows of one metric, model first."""
        return [row for row in self.rows if row.metric == metric]

    def slices_of(self, axis: str, metric: str) -> list[Slice]:
        """The slices of one metric along an axis."""
        return [found for found in self.slices if (found.axis, found.metric) == (axis, metric)]
