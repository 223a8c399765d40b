"""From a snapshot to the answers of the reading routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.thresholds import threshold
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.forecast.table import NONE
from fleetcast.risk.assess import fleet_probability
from serve_app.schemas import (
    FleetItem,
    FleetPage,
    FleetSummary,
    Heatmap,
    MetricForecast,
    ProfileHeatmap,
    ProfileSummary,
    ServerForecast,
)
from serve_app.snapshot import Snapshot

DECIMALS = 6


def numbers(values: npt.NDArray[np.floating]) -> list[float | None]:
    """Values [n] as JSON numbers, NaN as None, rounded to 1e-6."""
    rounded = np.round(values.astype(np.float64), DECIMALS)
    return [None if missing else value for value, missing in zip(rounded.tolist(), np.isnan(rounded), strict=True)]


def times(seconds: npt.NDArray[np.integer]) -> list[datetime]:
    """Unix seconds [n] as UTC times."""
    return [datetime.fromtimestamp(int(second), UTC) for second in seconds]


def fleet_page(
    snapshot: Snapshot | None,
    profile: str | None = None,
    level: str | None = None,
    sort: Literal["score", "server"] = "score",
    limit: int = 100,
    offset: int = 0,
) -> FleetPage:
    """The servers that match, the riskiest or the first in the alphabet first; servers without a score come last."""
    if snapshot is None:
        return FleetPage(origin=None, total=0, items=[], summary=_empty_summary())
    rows = [
        row
        for row, risk in enumerate(snapshot.risks)
        if (profile is None or risk.profile == profile) and (level is None or risk.level == level)
    ]
    rows.sort(key=lambda row: snapshot.risks[row].server)
    if sort == "score":
        rows.sort(key=lambda row: -_score(snapshot, row))
    items = [_item(snapshot, row) for row in rows[offset : offset + limit]]
    return FleetPage(origin=snapshot.origin, total=len(rows), items=items, summary=fleet_summary(snapshot))


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
    if row is None:
        return None
    forecast = snapshot.forecast
    profile = forecast.profiles[row]
    metrics = {}
    for column, name in enumerate(forecast.metrics):
        paths = forecast.quantiles[row, column]
        if forecast.sources[row] != NONE and np.isfinite(paths).all():
            metrics[name] = _metric_forecast(snapshot, name, profile, paths)
    return ServerForecast(
        server=server,
        profile=profile,
        origin=snapshot.origin,
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
    stamps = forecast_times(snapshot)
    profiles = {
        name: ProfileHeatmap(
            servers=[forecast.servers[row] for row in rows],
            timestamps=stamps,
            values=[numbers(values[row]) for row in rows],
        )
        for name, rows in sorted(members.items())
    }
    return Heatmap(metric=metric, unit=unit, origin=snapshot.origin, profiles=profiles)


def forecast_times(snapshot: Snapshot) -> list[datetime]:
    """Times of the forecast's steps: the first is one step after the origin."""
    origin = int(snapshot.origin.timestamp())
    return times(origin + STEP_SECONDS * np.arange(1, snapshot.forecast.horizon + 1, dtype=np.int64))


def _metric_forecast(snapshot: Snapshot, name: str, profile: str, paths: npt.NDArray[np.float32]) -> MetricForecast:
    limits = threshold(name, profile)
    rounded = np.round(paths.astype(np.float64), DECIMALS)
    return MetricForecast(
        unit=contract_metric(name).unit,
        warning=limits.warning if limits else None,
        critical=limits.critical if limits else None,
        timestamps=forecast_times(snapshot),
        quantiles={f"{level:g}": rounded[:, column].tolist() for column, level in enumerate(snapshot.forecast.levels)},
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


def _score(snapshot: Snapshot, row: int) -> float:
    score = snapshot.risks[row].score
    return -1.0 if score is None else score


def _profile_summary(scores: Sequence[float | None]) -> ProfileSummary:
    known = [score for score in scores if score is not None]
    return ProfileSummary(
        servers=len(scores),
        mean_score=sum(known) / len(known) if known else None,
        max_score=max(known, default=None),
    )


def _empty_summary() -> FleetSummary:
    return FleetSummary(servers=0, by_level={}, by_state={}, by_source={}, by_profile={}, p_any_30m=None, p_any_8h=None)
