"""What Prometheus is told is what the last cycle found, bounded, and what forecasts turned out to be worth."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.assess import Risk
from fleetcast.risk.cycle import Watch
from fleetcast.settings import MetricsSettings, ServiceSettings
from fleetcast.store.engine import open_store
from fleetcast.store.leases import see_lease, take_lease
from fleetcast.windows.arrays import FleetArrays
from serve_app import tally
from serve_app.archive import Archive
from serve_app.drift import Drift, Matured
from serve_app.history import HistoryCounts
from serve_app.schemas import CycleInfo, ModelInfo, ModelName
from serve_app.snapshot import Snapshot
from serve_app.tally import BATCHES, CALLS, REQUESTS, WINDOWS, Report, Tally
from serve_app.telemetry import Moment, Telemetry

ORIGIN = datetime(2026, 1, 12, 10, tzinfo=UTC)
METRICS, LEVELS = ("cpu_utilization", "memory_used"), (0.1, 0.5, 0.9)
SERVERS = ("web3", "web1", "web2", "mute")
MODEL = ModelInfo(
    run="r1", digest="d" * 64, preset="tiny", cutoff=ORIGIN, targets=list(METRICS), levels=list(LEVELS), context=24,
    horizon=96, parameters=1, evaluation={},
)  # fmt: skip
CYCLE = CycleInfo(
    origin=ORIGIN, number=3, seconds=1.5, servers=4, model=2, fallback=1, none=1, slow=False, skipped=2, retried=1,
    error=None, flaps_per_server_day=None,
)  # fmt: skip


def forecast(origin: datetime = ORIGIN) -> ForecastArrays:
    values = np.random.default_rng(int(origin.timestamp())).random((4, 2, 96, 3), dtype=np.float32)
    quantiles = np.sort(values, axis=3)
    quantiles[3] = np.nan
    quantiles[1, 1] = np.nan
    sources, reasons = ("model", "model", "fallback", "none"), ("", "", "young", "no sample")
    return ForecastArrays(SERVERS, ("web_api",) * 4, METRICS, LEVELS, origin, quantiles, sources, reasons)


def risk(server: str, score: float | None) -> Risk:
    return Risk(
        server=server, profile="web_api", origin=ORIGIN, p_30m=None if score is None else score / 100, p_2h=None,
        p_8h=None, open=False, level="P1" if (score or 0) > 85 else "P4", score=score, metric=None,
        metric_probabilities={}, breach_s=None, breach_low_s=None, breach_high_s=None, source="model", reason="",
    )  # fmt: skip


SCORES = {"web3": 20.0, "web1": 90.0, "web2": 50.0, "mute": None}
SNAPSHOT = Snapshot(
    origin=ORIGIN, model=ModelName(run="r1", digest="d" * 64), forecast=forecast(),
    risks=tuple(risk(name, SCORES[name]) for name in SERVERS), states=("healthy",) * 4, metrics=METRICS,
    latest=np.zeros((4, 2), np.float32), last_samples=np.zeros(4, np.int64),
)  # fmt: skip
COUNTS = HistoryCounts(servers=4, newest=ORIGIN, inserted=100, replaced=7, refused=3)
WHOLE = Moment(ORIGIN + timedelta(seconds=80), True, CYCLE, SNAPSHOT, COUNTS)

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(text: bytes) -> Series:
    found: Series = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def told(found: Series, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def everything() -> Series:
    """All series that the service can have."""
    telemetry = Telemetry(MetricsSettings())
    telemetry.cycle(CYCLE)
    telemetry.matured([Matured("cpu_utilization", 30, 4, 0.5, 3)])
    counts = {(REQUESTS, "200"): 5.0, (CALLS, WINDOWS): 6.0, (BATCHES, WINDOWS): 2.0}
    asyncio.run(telemetry.told(Report("a", counts, {WINDOWS: 2})))
    return series(telemetry.text(WHOLE))


def test_forecasts_and_risks_of_a_server_are_those_of_the_last_cycle() -> None:
    found = everything()
    for row, server in enumerate(SERVERS):
        for column, metric in enumerate(METRICS):
            for horizon, step in (("30m", 5), ("480m", 95)):
                for quantile, level in (("0.5", 1), ("0.9", 2)):
                    labels = {"server": server, "metric": metric, "quantile": quantile, "horizon": horizon}
                    value = SNAPSHOT.forecast.quantiles[row, column, step, level]
                    expected = None if np.isnan(value) else pytest.approx(float(value))
                    assert told(found, "fleetcast_forecast", **labels) == expected
    assert told(found, "fleetcast_risk_level", server="web1", profile="web_api") == 1
    assert told(found, "fleetcast_risk_score", server="web2", profile="web_api") == 50
    assert told(found, "fleetcast_risk_probability", server="web1", profile="web_api", horizon="30m") == 0.9
    assert told(found, "fleetcast_risk_score", server="mute", profile="web_api") is None


def test_the_number_of_series_is_bounded_and_the_riskiest_servers_keep_theirs() -> None:
    settings = MetricsSettings(servers=2, minutes=[30, 120, 600], quantiles=[0.5, 0.77])
    found = series(Telemetry(settings).text(WHOLE))
    shown = {dict(labels)["server"] for (_, labels) in found if "server" in dict(labels)}
    assert shown == {"web1", "web2"}
    assert told(found, "fleetcast_servers_without_series") == 2
    kinds = {
        (dict(labels)["quantile"], dict(labels)["horizon"]) for name, labels in found if name == "fleetcast_forecast"
    }
    assert kinds == {("0.5", "30m"), ("0.5", "120m")}, "what the model does not forecast is left out"
    none = series(Telemetry(MetricsSettings(servers=0)).text(WHOLE))
    assert not any("server" in dict(labels) for _, labels in none)
    assert told(none, "fleetcast_servers", source="fallback") == 1


def test_counts_of_several_processes_add_up_and_a_silent_one_has_nothing_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telemetry = Telemetry(MetricsSettings())
    for process in ("a", "b"):
        for number in range(2):
            asyncio.run(telemetry.told(Report(process, {(REQUESTS, "200"): 5.0}, {WINDOWS: number + 1})))
    found = series(telemetry.text(WHOLE))
    assert told(found, "fleetcast_requests_total", status="200") == 20
    assert told(found, "fleetcast_ongoing", kind="windows") == 4
    monkeypatch.setattr(tally, "SILENT_S", -1.0)
    found = series(telemetry.text(WHOLE))
    assert told(found, "fleetcast_ongoing", kind="windows") == 0
    assert told(found, "fleetcast_requests_total", status="200") == 20


def test_what_could_not_be_told_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "EVERY_S", 0.01)

    async def scene() -> list[Report]:
        heard: list[Report] = []
        attempts = 0

        async def tell(report: Report) -> None:
            nonlocal attempts
            attempts += 1
            if attempts <= 2:
                raise ConnectionError
            heard.append(report)

        counting = Tally(tell)
        counting.count(REQUESTS, "200")
        counting.count(REQUESTS, "200")
        with counting.under_way(WINDOWS):
            while not heard:
                await asyncio.sleep(0.01)
        return heard

    (first, *_) = asyncio.run(asyncio.wait_for(scene(), 30))
    assert first.counts == {(REQUESTS, "200"): 2}
    assert first.ongoing == {WINDOWS: 1}


def test_before_the_first_cycle_and_without_a_history_the_rest_is_told() -> None:
    found = series(Telemetry(MetricsSettings()).text(Moment(ORIGIN, False, None, None, None)))
    assert told(found, "fleetcast_ready") == 0
    assert told(found, "fleetcast_history_up") == 0
    assert told(found, "fleetcast_clock_seconds") == ORIGIN.timestamp()


def samples(seed: int) -> FleetArrays:
    """The fleet at the origin: other servers than were forecast, in another order, one without a value."""
    values = np.random.default_rng(seed).random((4, 3, 2), dtype=np.float32)
    values[2, -1, 0] = np.nan
    servers = ("new", "web2", "web1", "web3")
    start = int(ORIGIN.timestamp()) - 600
    return FleetArrays(servers, ("web_api",) * 4, METRICS[::-1], start, values, MAINTENANCE.empty_table())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Stored forecasts from 30 min and an hour before the origin."""
    store = open_store(f"sqlite:///{tmp_path}/fleetcast.db")
    with store.session() as session:
        lease = take_lease(session, "watcher", "a", see_lease(session, "watcher"))
    assert lease is not None
    kept = Archive(store, str(tmp_path / "f"), ServiceSettings())
    for minutes in (30, 60):
        origin = ORIGIN - timedelta(minutes=minutes)
        risks, watch = Watch().step([risk(name, None).model_copy(update={"origin": origin}) for name in SERVERS])
        assert kept.save(lease, forecast(origin), risks, watch, MODEL) == []
    return tmp_path


def by_hand(now: FleetArrays, minutes: int, metric: str) -> tuple[int, float, int]:
    """Points, pinball and coverage by plain loops over the servers that the model had forecast."""
    then = forecast(ORIGIN - timedelta(minutes=minutes))
    points, loss, inside = 0, 0.0, 0
    for row, server in enumerate(SERVERS):
        if then.sources[row] != "model" or server not in now.servers:
            continue
        quantiles = then.quantiles[row, METRICS.index(metric), minutes // 5 - 1].astype(float)
        truth = float(now.values[now.servers.index(server), -1, now.metrics.index(metric)])
        if np.isnan(truth) or np.isnan(quantiles).any():
            continue
        points += 1
        losses = [max(t * (truth - q), (t - 1) * (truth - q)) for t, q in zip(LEVELS, quantiles, strict=True)]
        loss += sum(losses) / len(losses)
        inside += quantiles[0] <= truth <= quantiles[2]
    return points, loss, inside


def test_forecasts_whose_time_has_come_are_scored_against_what_came(archive: Path) -> None:
    store = open_store(f"sqlite:///{archive}/fleetcast.db")
    drift, now = Drift(store, str(archive / "f"), [30, 60, 480]), samples(3)
    found = {(one.metric, one.minutes): (one.points, one.pinball, one.inside) for one in drift.score(now)}
    expected = {(metric, minutes): by_hand(now, minutes, metric) for metric in METRICS for minutes in (30, 60)}
    expected = {key: value for key, value in expected.items() if value[0]}
    assert {key[1] for key in expected} == {30, 60}
    assert found.keys() == expected.keys(), "no forecast is kept from 8 h before"
    for key, (points, loss, inside) in expected.items():
        assert found[key] == (points, pytest.approx(loss, rel=1e-5), inside)
    later = replace(now, start=now.start + 300)
    assert Drift(store, str(archive / "f"), [30]).score(later) == [], "only a forecast for this very time counts"


def test_a_large_fleet_is_scored_in_turns_that_cover_it(archive: Path) -> None:
    store = open_store(f"sqlite:///{archive}/fleetcast.db")
    now = samples(4)
    whole = Drift(store, str(archive / "f"), [30]).score(now)
    turns = Drift(store, str(archive / "f"), [30], most=1)
    parts = [one for _ in range(4) for one in turns.score(now)]
    for one in whole:
        same = [part for part in parts if part.metric == one.metric]
        assert sum(part.points for part in same) == one.points
        assert sum(part.pinball for part in same) == pytest.approx(one.pinball)
