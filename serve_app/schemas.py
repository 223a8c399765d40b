"""What the API answers and accepts, as typed models.

Times are UTC in ISO 8601, values in the contract's units, probabilities 0-1, durations seconds. The answers of the
alert, remediation and cost routes are made of the models of those rooms (`AlertView`, `PlanView`, `CostReport`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from fleetcast.alerting.views import AlertView, RoutingRow, SilenceView
from fleetcast.remediation.views import PlanView

ForecastSource = Literal["model", "fallback", "none"]
Level = Literal["P1", "P2", "P3", "P4"]
ScenarioName = Literal["healthy", "degrading", "critical", "cascade"]


class ErrorAnswer(BaseModel):
    """Every answer of 400 and above."""

    error: str = Field(description="the kind of error, one word")
    detail: str = Field(description="what was found, what was expected, what to do")


class Health(BaseModel):
    """The process answers; this says nothing of forecasts."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Whether forecasts come from the model, and if not, why."""

    ready: bool
    reasons: list[str]


class WhoAmI(BaseModel):
    """The owner of the API key."""

    name: str
    scopes: list[str]


class ModelInfo(BaseModel):
    """The bundle that makes the forecasts."""

    run: str
    digest: str = Field(description="SHA-256 of the weights")
    preset: str
    cutoff: datetime = Field(description="last time stamp seen in training")
    targets: list[str]
    levels: list[float] = Field(description="quantile levels, ascending")
    context: int = Field(description="steps of history that the encoder sees")
    horizon: int = Field(description="steps forecast")
    parameters: int
    evaluation: dict[str, Any] = Field(description="figures of the last backtest of the bundle; empty before one")


class ModelName(BaseModel):
    """The model that made an answer."""

    run: str
    digest: str = Field(description="SHA-256 of the weights")


class ClockInfo(BaseModel):
    """The service's one clock."""

    now: datetime
    simulated: bool
    speed: float = Field(description="simulated seconds a wall-clock second; 1 for the real clock")


class CycleInfo(BaseModel):
    """The last forecast cycle. `model`, `fallback` and `none` count servers by the source of their forecast."""

    origin: datetime
    number: int
    seconds: float = Field(description="wall-clock seconds it took")
    servers: int
    model: int
    fallback: int
    none: int
    slow: bool = Field(description="it took longer than a step of the clock, so that steps were skipped")
    skipped: int = Field(description="steps skipped since the service started because cycles were slow")
    retried: int = Field(0, description="calls to a forecaster that were made again, for example after its death")
    error: str | None = Field(description="why servers have no forecast, or why the cycle failed")
    flaps_per_server_day: float | None = Field(
        None, description="levels left and taken again within an hour, a server and day, while the fleet was watched"
    )


class DemoState(BaseModel):
    """The scenario that the demo feed is asked to play."""

    scenario: ScenarioName
    since: datetime


class DemoInfo(BaseModel):
    """Whether the service runs on a simulated clock and, if so, the scenario; `servers` None is the feed's choice."""

    enabled: bool
    scenario: ScenarioName | None
    since: datetime | None
    servers: list[str] | None


class ScenarioRequest(BaseModel):
    """A scenario to switch to."""

    model_config = ConfigDict(extra="forbid")

    name: ScenarioName
    servers: list[str] | None = Field(None, max_length=10_000)


class SourceInfo(BaseModel):
    """A source that the service reads by itself: up to which step, and why it does not go on."""

    name: str
    read: datetime | None
    error: str | None


class Status(BaseModel):
    """How the service is. `reasons` says why it is not ready."""

    ready: bool
    reasons: list[str]
    version: str
    contract_version: str
    model: ModelInfo
    model_refused: str | None = Field(None, description="the bundle that was promoted and not taken, and why")
    clock: ClockInfo
    cycle: CycleInfo | None
    servers: int
    newest_sample: datetime | None
    shadow: bool = Field(description="notifications and actions are recorded, not carried out")
    demo: DemoState | None
    sources: list[SourceInfo] = []


class FleetItem(BaseModel):
    """A server: its state and newest values, its risk, and where its forecast came from.

    `metric` is the one with the highest probability; the breach times are seconds from the origin until the median
    and the high and low quantile paths first reach a critical threshold, None for never.
    """

    server: str
    profile: str
    state: str
    level: Level
    score: float | None = Field(description="0-100, a display scale of the probabilities; None without a forecast")
    p_30m: float | None = Field(description="P(an incident begins within 30 min); None without a forecast")
    p_2h: float | None
    p_8h: float | None
    open: bool = Field(description="an incident is open now")
    metric: str | None
    metric_probabilities: dict[str, float]
    breach_s: float | None
    breach_low_s: float | None
    breach_high_s: float | None
    source: ForecastSource
    reason: str
    last_sample: datetime | None
    latest: dict[str, float | None]


class ProfileSummary(BaseModel):
    """The servers of a profile."""

    servers: int
    mean_score: float | None = Field(description="over the servers that have a score; None when none has")
    max_score: float | None


class FleetSummary(BaseModel):
    """The whole fleet, whatever was filtered."""

    servers: int
    by_level: dict[str, int]
    by_state: dict[str, int]
    by_source: dict[str, int]
    by_profile: dict[str, ProfileSummary]
    p_any_30m: float | None = Field(description="P(an incident begins on any server within 30 min)")
    p_any_8h: float | None


class FleetPage(BaseModel):
    """`total` servers match the filter; `items` is the page asked for.

    `origin` and `model` are None before the first cycle.
    """

    origin: datetime | None
    model: ModelName | None
    total: int
    items: list[FleetItem]
    summary: FleetSummary


class MetricForecast(BaseModel):
    """Quantile paths of one metric; keys of `quantiles` are levels ("0.1"). Thresholds None where none is set."""

    unit: str
    warning: float | None
    critical: float | None
    timestamps: list[datetime]
    quantiles: dict[str, list[float]]


class ServerForecast(BaseModel):
    """The last cycle's forecast of a server; `metrics` is empty when `source` is `none`."""

    server: str
    profile: str
    origin: datetime
    model: ModelName
    source: ForecastSource
    reason: str
    levels: list[float]
    metrics: dict[str, MetricForecast]


class WindowsAnswer(BaseModel):
    """Forecasts of the caller's own samples, by server."""

    origin: datetime
    model: ModelName
    items: list[ServerForecast]


class ServerHistory(BaseModel):
    """Samples of a server on the grid; None where there was no value."""

    server: str
    profile: str
    timestamps: list[datetime]
    states: list[str]
    metrics: dict[str, list[float | None]]


class ProfileTrend(BaseModel):
    """Mean and 90th percentile over a profile's servers at each time; None where no server had a sample."""

    mean: list[float | None]
    p90: list[float | None]


class Trends(BaseModel):
    """How a metric went, by profile."""

    metric: str
    unit: str
    timestamps: list[datetime]
    profiles: dict[str, ProfileTrend]


class ProfileHeatmap(BaseModel):
    """`values` is the forecast median [server][step]; None for a server without a forecast."""

    servers: list[str]
    timestamps: list[datetime]
    values: list[list[float | None]]


class Heatmap(BaseModel):
    """Forecast medians of a metric by profile; `origin` is None before the first cycle."""

    metric: str
    unit: str
    origin: datetime | None
    profiles: dict[str, ProfileHeatmap]


class QuarantinedValue(BaseModel):
    """A broken rule; `row` counts from 0 in the request."""

    row: int
    server: str | None
    timestamp: str | None
    column: str
    value: str | None
    rule: str


class QuarantinedSample(QuarantinedValue):
    """A refused value that is kept: when it came, and the name of the key that sent it."""

    number: int = Field(description="grows with every refused value")
    at: datetime
    sender: str


class QuarantinePage(BaseModel):
    """Refused values, newest first; `total` are kept, `next` is None on the last page."""

    total: int
    items: list[QuarantinedSample]
    next: int | None


class SamplesAnswer(BaseModel):
    """What became of a batch; a row that was not accepted is in the quarantine with its reason."""

    accepted: int = Field(description="rows stored, new and replaced")
    replaced: int = Field(description="of these, rows whose server and time were there already")
    quarantined: list[QuarantinedValue] = []


class SamplesRequest(BaseModel):
    """Rows of `server`, `timestamp` (ISO 8601 with zone, or Unix seconds), `profile` (optional) and metrics.

    A time stamp t on the 5-minute grid stands for the cell [t, t + 300 s).
    """

    model_config = ConfigDict(extra="forbid")

    samples: list[dict[str, str | float | None]]


class MaintenanceRequest(BaseModel):
    """A planned window of a server."""

    model_config = ConfigDict(extra="forbid")

    server: str = Field(min_length=1, max_length=253)
    start: datetime
    end: datetime


class MaintenanceAnswer(BaseModel):
    """Planned windows known to the service."""

    windows: int


class ApproveRequest(BaseModel):
    """An approval binds to what was read: the plan's hash."""

    model_config = ConfigDict(extra="forbid")

    hash: str = Field(min_length=1, max_length=128)


class AlertsAnswer(BaseModel):
    """The newest alerts; in shadow mode notifications are recorded, not sent."""

    items: list[AlertView]
    shadow: bool


class SilenceRequest(BaseModel):
    """Which alerts are not sent and until when: either `ends_at` or `hours` from now."""

    model_config = ConfigDict(extra="forbid")

    matchers: list[Annotated[str, Field(max_length=1000)]] = Field(
        min_length=1, max_length=20, description='all must fit: `server="ppdb0003"`, `team=~"pay.*"`'
    )
    starts_at: AwareDatetime | None = Field(None, description="default now")
    ends_at: AwareDatetime | None = None
    hours: float | None = Field(None, gt=0, le=24 * 366)
    comment: str = Field("", max_length=1000)

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.ends_at is None) == (self.hours is None):
            raise ValueError("a silence has an end: give either `ends_at` or `hours`")
        return self

    @property
    def span(self) -> timedelta:
        """How long from now, where `hours` say so."""
        return timedelta(hours=self.hours or 0.0)


class SilencesAnswer(BaseModel):
    """Silences, the newest first."""

    items: list[SilenceView]


class RoutingAnswer(BaseModel):
    """Who is told what, by level."""

    items: list[RoutingRow]


class PlansAnswer(BaseModel):
    """The newest plans; in dry run steps are recorded, not carried out."""

    items: list[PlanView]
    dry_run: bool


class LevelChange(BaseModel):
    """A server whose level changed."""

    server: str
    level: Level
    score: float | None


class StreamMessage(BaseModel):
    """A message of `/v1/stream`; `seq` is the number of the origin's grid step since 1970: it grows by one a step and
    jumps over skipped steps, whatever was restarted. `changes` counts from the message `previous`; None: all servers
    are in it."""

    seq: int
    previous: int | None = None
    type: Literal["cycle"]
    origin: datetime
    summary: FleetSummary
    changes: list[LevelChange]
