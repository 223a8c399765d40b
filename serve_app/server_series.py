"""Series of single servers for Prometheus: forecasts and risks of the last cycle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from prometheus_client.core import GaugeMetricFamily, Metric

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.risk.levels import LEVELS
from fleetcast.settings import MetricsSettings
from serve_app.snapshot import Snapshot

HORIZONS = {"30m": "p_30m", "2h": "p_2h", "8h": "p_8h"}


def server_series(snapshot: Snapshot, settings: MetricsSettings) -> Iterator[Metric]:
    """Gauges of the servers that have series of their own, and how many have none."""
    rows = shown(snapshot, settings.servers)
    yield _forecasts(snapshot, rows, settings)
    yield from _risks(snapshot, rows)
    yield GaugeMetricFamily(
        "fleetcast_servers_without_series",
        "Servers beyond the setting FLEETCAST_METRICS__SERVERS.",
        value=len(snapshot.risks) - len(rows),
    )


def shown(snapshot: Snapshot, most: int) -> list[int]:
    """Positions of the servers with the highest scores, at most so many; those without a score come last."""
    risks = snapshot.risks
    ranked = sorted(range(len(risks)), key=lambda row: (-_or(risks[row].score, -1.0), risks[row].server))
    return ranked[:most]


def _forecasts(snapshot: Snapshot, rows: list[int], settings: MetricsSettings) -> Metric:
    forecast = snapshot.forecast
    family = GaugeMetricFamily(
        "fleetcast_forecast",
        "Quantile of a metric that is forecast for so long after the origin, in the unit of the data contract.",
        labels=("server", "metric", "quantile", "horizon"),
    )
    steps = {f"{minutes}m": minutes * 60 // STEP_SECONDS - 1 for minutes in settings.minutes}
    steps = {name: step for name, step in steps.items() if step < forecast.horizon}
    columns = {
        f"{wanted:g}": forecast.levels.index(wanted) for wanted in settings.quantiles if wanted in forecast.levels
    }
    for row in rows:
        server = forecast.servers[row]
        for metric, values in zip(forecast.metrics, forecast.quantiles[row], strict=True):
            for horizon, step in steps.items():
                for quantile, column in columns.items():
                    if np.isfinite(values[step, column]):
                        family.add_metric((server, metric, quantile, horizon), float(values[step, column]))
    return family


def _risks(snapshot: Snapshot, rows: list[int]) -> Iterator[Metric]:
    chance = GaugeMetricFamily(
        "fleetcast_risk_probability",
        "Probability that an incident begins within the horizon.",
        labels=("server", "profile", "horizon"),
    )
    score = GaugeMetricFamily("fleetcast_risk_score", "Risk from 0 to 100.", labels=("server", "profile"))
    level = GaugeMetricFamily(
        "fleetcast_risk_level", "Risk level as a number: 1 (P1, the worst) to 4 (P4).", labels=("server", "profile")
    )
    for risk in (snapshot.risks[row] for row in rows):
        labels = (risk.server, risk.profile)
        level.add_metric(labels, LEVELS.index(risk.level) + 1)
        if risk.score is not None:
            score.add_metric(labels, risk.score)
        for name, field in HORIZONS.items():
            value = getattr(risk, field)
            if value is not None:
                chance.add_metric((*labels, name), value)
    yield from (chance, score, level)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
