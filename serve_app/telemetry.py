"""What the watcher tells Prometheus of itself, its cycles and the other parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fleetcast.risk.levels import LEVELS
from fleetcast.settings import MetricsSettings
from serve_app.drift import Matured
from serve_app.history import HistoryCounts
from serve_app.schemas import CycleInfo
from serve_app.server_series import server_series
from serve_app.snapshot import Snapshot
from serve_app.tally import BATCHES, CALLS, REQUESTS, SHARDS, WINDOWS, Ongoing, Report
from serve_app.views import fleet_summary

SECONDS = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)


@dataclass(frozen=True)
class Moment:
    """What is looked up when Prometheus asks; `history` None when it does not answer."""

    now: datetime
    ready: bool
    cycle: CycleInfo | None
    snapshot: Snapshot | None
    history: HistoryCounts | None


class Telemetry:
    """Counters that grow as things happen, and the rest as it is when Prometheus asks."""

    def __init__(self, settings: MetricsSettings) -> None:
        self._settings, self._ongoing = settings, Ongoing()
        registry = self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "fleetcast_cycle_seconds", "Wall-clock seconds of forecast cycles.", buckets=SECONDS, registry=registry
        )
        self._cycles = Counter("fleetcast_cycles", "Forecast cycles by how they ended.", ["outcome"], registry=registry)
        self._retried = Counter("fleetcast_shards_retried", "Shards that were sent again.", registry=registry)
        self._counts = {
            REQUESTS: Counter("fleetcast_requests", "Requests by status.", ["status"], registry=registry),
            CALLS: Counter("fleetcast_forecaster_calls", "Calls that were forecast.", ["kind"], registry=registry),
            BATCHES: Counter("fleetcast_forecaster_batches", "Runs of the model.", ["kind"], registry=registry),
        }
        self._points = _of_matured("fleetcast_matured_points", "Forecasts whose time has come.", registry)
        self._pinball = _of_matured(
            "fleetcast_matured_pinball",
            "Sum of their pinball losses, mean of the quantiles, unit of the metric.",
            registry,
        )
        self._inside = _of_matured("fleetcast_matured_inside_80", "Those whose value lay in the 80 % band.", registry)
        for outcome in ("ok", "problem"):
            self._cycles.labels(outcome)

    def cycle(self, info: CycleInfo) -> None:
        """A cycle has ended."""
        self._seconds.observe(info.seconds)
        self._cycles.labels("problem" if info.error else "ok").inc()
        self._retried.inc(info.retried)

    async def told(self, report: Report) -> None:
        """A process has told its counts."""
        self._ongoing.add(report)
        for (name, label), by in report.counts.items():
            self._counts[name].labels(label).inc(by)

    def matured(self, found: Iterable[Matured]) -> None:
        """Forecasts have been compared with what came."""
        for one in found:
            labels = (one.metric, f"{one.minutes}m")
            self._points.labels(*labels).inc(one.points)
            self._pinball.labels(*labels).inc(one.pinball)
            if one.inside is not None:
                self._inside.labels(*labels).inc(one.inside)

    def text(self, moment: Moment) -> bytes:
        """All series in Prometheus' text format."""
        now = CollectorRegistry()
        now.register(_Now(list(self._moment(moment))))
        return generate_latest(self._registry) + generate_latest(now)

    def _moment(self, moment: Moment) -> Iterator[Metric]:
        yield _gauge("fleetcast_ready", "1 when /readyz says so.", float(moment.ready))
        yield _gauge("fleetcast_clock_seconds", "The service's clock, Unix seconds.", moment.now.timestamp())
        ongoing = GaugeMetricFamily(
            "fleetcast_ongoing", "Under way now: requests, calls to forecasters.", labels=["kind"]
        )
        for kind in (REQUESTS, WINDOWS, SHARDS):
            ongoing.add_metric([kind], self._ongoing.total(kind))
        yield ongoing
        yield from _history(moment.history)
        if moment.cycle is not None:
            yield from _cycle(moment.cycle)
        if moment.snapshot is not None:
            yield from _fleet(moment.snapshot)
            yield from server_series(moment.snapshot, self._settings)


class _Now:
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        yield from self._found


def _of_matured(name: str, text: str, registry: CollectorRegistry) -> Counter:
    return Counter(name, text, ["metric", "horizon"], registry=registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _history(info: HistoryCounts | None) -> Iterator[Metric]:
    yield _gauge("fleetcast_history_up", "1 when the history answers.", float(info is not None))
    if info is None:
        return
    yield _gauge("fleetcast_history_servers", "Servers with samples in memory.", info.servers)
    if info.newest is not None:
        yield _gauge(
            "fleetcast_newest_sample_seconds", "Time of the newest sample, Unix seconds.", info.newest.timestamp()
        )
    samples = CounterMetricFamily("fleetcast_samples", "Samples that were stored.", labels=["outcome"])
    samples.add_metric(["new"], info.inserted)
    samples.add_metric(["replaced"], info.replaced)
    yield samples
    yield CounterMetricFamily("fleetcast_values_refused", "Values that went to the quarantine.", value=info.refused)


def _cycle(info: CycleInfo) -> Iterator[Metric]:
    yield _gauge("fleetcast_cycle_origin_seconds", "Origin of the last cycle, Unix seconds.", info.origin.timestamp())
    yield _gauge("fleetcast_cycle_last_seconds", "Wall-clock seconds of the last cycle.", info.seconds)
    yield CounterMetricFamily(
        "fleetcast_cycles_skipped", "Steps without a cycle, since it was slow.", value=info.skipped
    )
    sources = GaugeMetricFamily("fleetcast_servers", "Servers by the source of their forecast.", labels=["source"])
    for source in ("model", "fallback", "none"):
        sources.add_metric([source], getattr(info, source))
    yield sources


def _fleet(snapshot: Snapshot) -> Iterator[Metric]:
    yield _gauge(
        "fleetcast_forecast_origin_seconds", "Origin of the forecasts shown, Unix seconds.", snapshot.origin.timestamp()
    )
    summary = fleet_summary(snapshot)
    levels = GaugeMetricFamily("fleetcast_servers_at_level", "Servers by risk level.", labels=["level"])
    for level in LEVELS:
        levels.add_metric([level], summary.by_level.get(level, 0))
    yield levels
    chance = GaugeMetricFamily(
        "fleetcast_fleet_risk_probability", "Probability that any server gets an incident.", labels=["horizon"]
    )
    for horizon, value in (("30m", summary.p_any_30m), ("8h", summary.p_any_8h)):
        if value is not None:
            chance.add_metric([horizon], value)
    yield chance
    model = GaugeMetricFamily("fleetcast_model_info", "The model of the last forecasts.", labels=["run", "digest"])
    model.add_metric([snapshot.model.run, snapshot.model.digest[:12]], 1)
    yield model
