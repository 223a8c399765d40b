"""What the tabs make of the API's answers: charts with the API's numbers, plain words where there are none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleetcast.cost.report import AssumptionsView, CostReport, Estimate, ProfileSaving
from fleetcast.forecast.explanation import Driver, Drivers, Explanation
from fleetcast.settings import CostSettings
from serve_app import schemas
from serve_app.dashboard import cost, header
from serve_app.dashboard.fan import bands, fan_figure
from serve_app.dashboard.heatmap import heatmap_figure
from serve_app.dashboard.risks import drivers_panel
from serve_app.dashboard.trends import trend_figure

ORIGIN = datetime(2026, 1, 12, 14, 35, tzinfo=UTC)
STEP = timedelta(minutes=5)
AHEAD = [ORIGIN + STEP * step for step in (1, 2, 3)]
LEVELS = [0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98]


def forecast(*metrics: str) -> schemas.ServerForecast:
    paths = {f"{level:g}": [level / 2 + step / 100 for step in range(3)] for level in LEVELS}
    one = schemas.MetricForecast(unit="1", warning=0.8, critical=0.95, timestamps=AHEAD, quantiles=paths)
    return schemas.ServerForecast(
        server="ppml0001",
        profile="ml_compute",
        origin=ORIGIN,
        model=schemas.ModelName(run="r", digest="d"),
        source="model" if metrics else "none",
        reason="" if metrics else "no sample for 3 h",
        levels=LEVELS,
        metrics=dict.fromkeys(metrics, one),
    )


def history(*metrics: str) -> schemas.ServerHistory:
    past = [ORIGIN - STEP, ORIGIN]
    return schemas.ServerHistory(
        server="ppml0001",
        profile="ml_compute",
        timestamps=past,
        states=["healthy", "offline"],
        metrics={name: [0.4, None] for name in metrics},
    )


def test_bands_are_pairs_around_the_median_named_by_what_they_hold() -> None:
    assert [name for *_, name in bands(LEVELS)] == ["96 % band", "80 % band", "50 % band"]
    assert bands([0.5]) == []
    assert bands([0.1, 0.5, 0.7]) == []


def test_a_fan_chart_shows_history_median_bands_and_thresholds_in_per_cent() -> None:
    chart = fan_figure(history("memory_used"), forecast("memory_used", "cpu_iowait"), "memory_used")
    drawn = {trace.name: trace for trace in chart.data if trace.xaxis in (None, "x")}
    assert {"history", "median", "96 % band", "80 % band", "50 % band"} <= set(drawn)
    assert list(drawn["median"].y) == pytest.approx([25.0, 26.0, 27.0])
    assert list(drawn["history"].y) == [40.0, None]
    outer = list(drawn["96 % band"].y)
    assert (max(outer), min(outer)) == pytest.approx((51.0, 1.0))
    lines = {shape.y0 for shape in chart.layout.shapes if shape.y0 == shape.y1}
    assert {80.0, 95.0} <= lines
    assert {note.text for note in chart.layout.annotations} >= {"memory_used", "cpu_iowait", "warning", "critical"}


def test_a_server_without_a_forecast_still_shows_its_history() -> None:
    chart = fan_figure(history("memory_used"), forecast(), "memory_used")
    assert [trace.name for trace in chart.data] == ["history"]


def test_the_heatmap_puts_the_hottest_servers_first_and_escapes_their_names() -> None:
    servers = [f"web<{number}>" for number in range(12)]
    values: list[list[float | None]] = [[number / 100, None, 0.0] for number in range(len(servers))]
    block = schemas.ProfileHeatmap(servers=servers, timestamps=AHEAD, values=values)
    found = schemas.Heatmap(metric="cpu_utilization", unit="1", origin=ORIGIN, profiles={"web_api": block})
    drawn = heatmap_figure(found, found.profiles, 10).data[0]
    assert len(drawn.y) == 10
    assert drawn.y[0] == f"web&lt;{len(servers) - 1}&gt;"
    assert list(drawn.z[0]) == [pytest.approx(len(servers) - 1), None, 0.0]


def test_trends_keep_gaps() -> None:
    trend = schemas.ProfileTrend(mean=[0.2, None, 0.4], p90=[0.3, None, 0.5])
    found = schemas.Trends(metric="memory_used", unit="1", timestamps=AHEAD, profiles={"database": trend})
    mean, p90 = trend_figure(found, 6).data
    assert (list(mean.y), list(p90.y)) == ([20.0, None, 40.0], [30.0, None, 50.0])


def report(day: Estimate | None, payback: float | None) -> CostReport:
    return CostReport(
        now=ORIGIN,
        since=ORIGIN - timedelta(hours=3),
        observed_hours=3.0,
        incidents=2,
        seen_late=0,
        expected_incidents=1.25,
        confirmed=0,
        passed=1,
        profiles=[
            ProfileSaving(profile="web_api", incidents=2, expected_incidents=1.25, avoided_usd=1e3, net_usd=880.0)
        ],
        avoided_usd=1000.0,
        false_alarms_usd=100.0,
        actions_usd=20.0,
        net_usd=880.0,
        day=day,
        month=day,
        year=day,
        payback_months=payback,
        assumptions=AssumptionsView(values=CostSettings(), author="ada", at=ORIGIN),
        shadow=True,
        notes=["Only 3 h were observed."],
    )


def test_the_cost_report_says_would_have_and_shows_its_interval() -> None:
    shown = cost.render(report(Estimate(expected=7040.0, low=100.0, high=9000.0), 1.25))
    for words in ("Would have saved a day", "$7,040", "90 % between $100 and $9,000", "1.2 months", "Only 3 h were"):
        assert words in shown


def test_without_an_estimate_there_is_no_figure() -> None:
    shown = cost.render(report(None, None))
    assert "nothing to estimate from yet" in shown
    assert "months" not in shown


@pytest.mark.parametrize("ready", [True, False])
def test_the_header_says_whether_forecasts_come_from_the_model(ready: bool) -> None:
    cycle = schemas.CycleInfo(
        origin=ORIGIN, number=7, seconds=0.8, servers=3, model=2, fallback=1, none=0, slow=False, skipped=0, error=None
    )
    status = schemas.Status(
        ready=ready,
        reasons=[] if ready else ["the newest sample is <old>"],
        version="1",
        contract_version="2.0.0",
        model=schemas.ModelInfo(
            run="r",
            digest="d",
            preset="tiny",
            cutoff=ORIGIN,
            targets=["memory_used"],
            levels=LEVELS,
            context=288,
            horizon=96,
            parameters=1,
            evaluation={},
        ),
        clock=schemas.ClockInfo(now=ORIGIN, simulated=True, speed=60.0),
        cycle=cycle,
        servers=3,
        newest_sample=ORIGIN,
        shadow=True,
        demo=None,
    )
    shown = header.render(status, schemas.WhoAmI(name="ada", scopes=["read"]))
    assert "2 of 3 servers forecast by the model, 1 by the fallback" in shown
    assert ("the newest sample is &lt;old&gt;" in shown) == (not ready)
    assert "simulated clock, 60 × real time" in shown


def explanation(source: str, note: str, *drivers: Drivers) -> Explanation:
    return Explanation(
        server="ppml0001", profile="ml_compute", origin=ORIGIN, model="run", source=source, note=note, drivers=drivers
    )


def test_drivers_are_the_models_and_an_untrained_forecast_has_none() -> None:
    found = Drivers(
        target="cpu_utilization", unit="1", level=0.9, peak=0.9, peak_step=12, hours=4.0,
        drivers=(
            Driver(metric="cpu_user", effect=0.12, without=0.78, edited=48),
            Driver(metric="cpu_iowait", effect=-0.03, without=0.93, edited=48),
            Driver(metric="memory_used", effect=0.0002, without=0.8998, edited=48),
        ),
    )  # fmt: skip
    shown = str(drivers_panel(explanation("model", "The model made this forecast.", found), "cpu_utilization"))
    assert shown.index("+12 %") < shown.index("−3.0 %") < shown.index("&lt; 0.1 %")
    assert "as usual for 4 h" in shown
    note = "The model did not make this forecast, the untrained fallback did: no sample for 40 min."
    assert note in str(drivers_panel(explanation("fallback", note), "cpu_utilization"))
    assert "does not forecast" in str(drivers_panel(explanation("model", "", found), "cpu_user"))
    assert "try again" in str(drivers_panel("no answer; try again", "cpu_utilization"))
