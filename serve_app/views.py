"""From a snapshot to the answers of the reading routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.thresholds import threshold
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.forecast.table import NONE, ForecastArrays
from fleetcast.risk.assess import Risk, fleet_probability
from serve_app.schemas import (
    FleetItem,
    FleetPage,
    FleetSummary,
    Heatmap,
    MetricForecast,
    ModelName,
    ProfileHeatmap,
    ProfileSummary,
    ServerForecast,
    WindowsAnswer,
)
from serve_app.snapshot import Snapshot

DECIMALS = 6

FleetSort = Literal["score", "server", "profile", "level", "p_30m", "p_2h", "p_8h", "breach_s"]
Order = Literal["asc", "desc"]


def numbers(values: npt.NDArray[np.floating]) -> list[float | None]:
    """Values [n] as JSON numbers, NaN as None, rounded to 1e-6."""
    rounded = np.round(values.astype(np.float64), DECIMALS)
    return [None if missing else value for value, missing in zip(rounded.tolist(), np.isnan(rounded), strict=True)]


def times(seconds: npt.NDArray[np.integer]) -> list[datetime]:
    """Unix seconds [n] as UTC times."""
    return [datetime.fromtimestamp(int(second), UTC) for second in seconds]


@dataclass(frozen=True)
class FleetQuery:
    """Which servers, in which order, which page of them. None matches all; `server` is a part of the name."""

    profile: str | None = None
    level: str | None = None
    state: str | None = None
    source: str | None = None
    server: str | None = None
    sort: FleetSort = "score"
    order: Order | None = None
    limit: int = 100
    offset: int = 0

    def matches(self, risk: Risk, state: str) -> bool:
        """Whether a server is asked for."""
        return (
            self.profile in (None, risk.profile)
            and self.level in (None, risk.level)
            and self.state in (None, state)
            and self.source in (None, risk.source)
            and (self.server is None or self.server.lower() in risk.server.lower())
        )

    @property
    def falls(self) -> bool:
        """Whether the largest come first: where nothing else is asked, for what says how bad it is."""
        return self.sort in ("score", "p_30m", "p_2h", "p_8h") if self.order is None else self.order == "desc"


def fleet_page(snapshot: Snapshot | None, query: FleetQuery | None = None) -> FleetPage:
    """The servers that match, in the order asked for; those without a value come last, equal ones by name."""
    query = query or FleetQuery()
    if snapshot is None:
        return FleetPage(origin=None, model=None, total=0, items=[], summary=_empty_summary())
    risks = snapshot.risks
    rows = [row for row, risk in enumerate(risks) if query.matches(risk, snapshot.states[row])]
    rows.sort(key=lambda row: risks[row].server)
    known = [row for row in rows if getattr(risks[row], query.sort) is not None]
    known.sort(key=lambda row: getattr(risks[row], query.sort), reverse=query.falls)
    rows = known + [row for row in rows if getattr(risks[row], query.sort) is None]
    items = [_item(snapshot, row) for row in rows[query.offset : query.offset + query.limit]]
    return FleetPage(
        origin=snapshot.origin, model=snapshot.model, total=len(rows), items=items, summary=fleet_summary(snapshot)
    )


def fleet_item(snapshot: Snapshot, server: str) -> FleetItem | None:
    """One server; None when the cycle did not see it."""
    row = snapshot.row_of(server)
    return None if row is None else _item(snapshot, row)


def fleet_summary(snapshot: Snapshot) -> FleetSummary:
    """Counts and probabilities of the whole fleet."""
    by_profile: dict[str, list[float | None]] = {}
    for risk in snapshot.risks:
        by_profile.setdefault(risk.profile, []).append(risk.score)
    return FleetSummary(
        servers=len(snapshot.risks),
        by_level=dict(Counter(risk.level for risk in snapshot.risks)),
        by_state=dict(Counter(snapshot.states)),
        by_source=dict(snapshot.by_source()),
        by_profile={name: _profile_summary(scores) for name, scores in sorted(by_profile.items())},
        **fleet_probability(snapshot.risks, snapshot.calibration),
    )


def server_forecast(snapshot: Snapshot, server: str) -> ServerForecast | None:
    """The forecast of one server; None when the cycle did not see it."""
    row = snapshot.row_of(server)
    return None if row is None else _forecast_of(snapshot.forecast, row, snapshot.model)


def windows_answer(forecast: ForecastArrays, model: ModelName) -> WindowsAnswer:
    """The forecasts of a caller's own windows."""
    items = [_forecast_of(forecast, row, model) for row in range(len(forecast.servers))]
    return WindowsAnswer(origin=forecast.origin, model=model, items=items)


def _forecast_of(forecast: ForecastArrays, row: int, model: ModelName) -> ServerForecast:
    profile = forecast.profiles[row]
    metrics = {}
    for column, name in enumerate(forecast.metrics):
        paths = forecast.quantiles[row, column]
        if forecast.sources[row] != NONE and np.isfinite(paths).all():
            metrics[name] = _metric_forecast(forecast, name, profile, paths)
    return ServerForecast(
        server=forecast.servers[row],
        profile=profile,
        origin=forecast.origin,
        model=model,
        source=forecast.sources[row],
        reason=forecast.reasons[row],
        levels=list(forecast.levels),
        metrics=metrics,
    )


def heatmap(snapshot: Snapshot | None, metric: str) -> Heatmap | None:
    """Forecast medians by profile; None when the model does not forecast the metric."""
    unit = contract_metric(metric).unit
    if snapshot is None:
        return Heatmap(metric=metric, unit=unit, origin=None, profiles={})
    forecast = snapshot.forecast
    if metric not in forecast.metrics:
        return None
    median = int(np.abs(np.asarray(forecast.levels) - 0.5).argmin())
    values = forecast.quantiles[:, forecast.metrics.index(metric), :, median]
    members: dict[str, list[int]] = {}
    for row in sorted(range(len(forecast.servers)), key=lambda row: forecast.servers[row]):
        members.setdefault(forecast.profiles[row], []).append(row)
    stamps = forecast_times(forecast)
    profiles = {
        name: ProfileHeatmap(
            servers=[forecast.servers[row] for row in rows],
            timestamps=stamps,
            values=[numbers(values[row]) for row in rows],
        )
        for name, rows in sorted(members.items())
    }
    return Heatmap(metric=metric, unit=unit, origin=snapshot.origin, profiles=profiles)


def forecast_times(forecast: ForecastArrays) -> list[datetime]:
    """Times of the forecast's steps: the first is one step after the origin."""
    origin = int(forecast.origin.timestamp())
    return times(origin + STEP_SECONDS * np.arange(1, forecast.horizon + 1, dtype=np.int64))


def _metric_forecast(
    forecast: ForecastArrays, name: str, profile: str, paths: npt.NDArray[np.float32]
) -> MetricForecast:
    limits = threshold(name, profile)
    rounded = np.round(paths.astype(np.float64), DECIMALS)
    return MetricForecast(
        unit=contract_metric(name).unit,
        warning=limits.warning if limits else None,
        critical=limits.critical if limits else None,
        timestamps=forecast_times(forecast),
        quantiles={f"{level:g}": rounded[:, column].tolist() for column, level in enumerate(forecast.levels)},
    )


def _item(snapshot: Snapshot, row: int) -> FleetItem:
    risk = snapshot.risks[row]
    last = int(snapshot.last_samples[row])
    values = dict(zip(snapshot.metrics, numbers(snapshot.latest[row]), strict=True))
    return FleetItem(
        **risk.model_dump(exclude={"origin"}),
        state=snapshot.states[row],
        last_sample=None if last < 0 else datetime.fromtimestamp(last, UTC),
        latest={name: value for name, value in values.items() if value is not None},
    )


def _profile_summary(scores: Sequence[float | None]) -> ProfileSummary:
    known = [score for score in scores if score is not None]
    return ProfileSummary(
        servers=len(scores),
        mean_score=sum(known) / len(known) if known else None,
        max_score=max(known, default=None),
    )


def _empty_summary() -> FleetSummary:
    return FleetSummary(servers=0, by_level={}, by_state={}, by_source={}, by_profile={}, p_any_30m=None, p_any_8h=None)
