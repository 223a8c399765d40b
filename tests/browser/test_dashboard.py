"""The dashboard in Debian's Chromium: each tab shows what the API says, and each button does what it says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from serve_app.dashboard import words
from tests.browser.conftest import DEGRADED, Dashboard, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.ray, pytest.mark.timeout(900)]

TABS = {
    "Fleet overview": "#fc-servers table",
    "Heatmap": "#fc-heatmap .js-plotly-plot",
    "Top risks": "#fc-fan .js-plotly-plot",
    "Historical trends": "#fc-trends .js-plotly-plot",
    "Cost avoidance": "#fc-cost-report .fc-cards",
    "Remediation": "#fc-plans .fc-plan",
    "Alerting": "#fc-alerts table",
}


def test_a_wrong_key_is_refused_and_the_right_one_lets_in(dashboard: Dashboard) -> None:
    dashboard.log_in("admin", "fc_wrong")
    assert "do not match" in dashboard.text("[role=alert]")
    dashboard.log_in("viewer", dashboard.live.keys["admin"])
    assert "do not match" in dashboard.text("[role=alert]")
    dashboard.enter()
    dashboard.shows("#fc-header", lambda: ["admin", "read", "approve", "Log out"])
    dashboard.at("text=Log out").click()
    dashboard.page.wait_for_url("**/ui/login")


def test_a_plan_is_approved_and_executed_as_a_dry_run(dashboard: Dashboard) -> None:
    dashboard.enter()
    dashboard.open("Remediation")

    def plan() -> dict[str, Any]:
        plans = dashboard.live.get("/v1/remediation/plans")["items"]
        found: dict[str, Any] = next(one for one in plans if one["server"] == DEGRADED)
        return found

    number = plan()["id"]
    card = f"[data-plan='{number}']"
    dashboard.shows(card, lambda: [plan()["title"], plan()["integration"], words.duration(plan()["estimated_s"])])
    dashboard.shows(card, lambda: [step["wording"] for step in plan()["steps"]])
    assert "would have" in dashboard.text(card)
    dashboard.at(f"{card} [data-action=approve]").click()
    wait_for(lambda: plan()["approved_by"] == "admin", "the approval")
    dashboard.at(f"{card} [data-action=execute]").click()
    wait_for(lambda: plan()["status"] == "executed", "the execution")
    dashboard.shows(card, lambda: ["executed by admin", "would have"])
    assert plan()["dry_run"]
    dashboard.at("#fc-switch [data-action=stop]").click()
    dashboard.shows("#fc-switch", lambda: ["Stopped by admin"])
    assert dashboard.live.get("/v1/remediation")["control"]["stopped"]
    dashboard.at("#fc-switch [data-action=release]").click()
    dashboard.shows("#fc-switch", lambda: ["Actions may start"])


def test_an_alert_shows_what_would_have_been_sent_and_is_acknowledged(dashboard: Dashboard) -> None:
    dashboard.enter()
    dashboard.open("Alerting")

    def alert() -> dict[str, Any]:
        found: dict[str, Any] = next(
            one for one in dashboard.live.get("/v1/alerts")["items"] if one["server"] == DEGRADED
        )
        return found

    number = alert()["id"]
    dashboard.shows("#fc-alerts", lambda: [alert()["message"], alert()["level"]])
    detail = f"#fc-alerts [data-action=detail][data-value='{number}']"
    dashboard.at(detail).click()
    dashboard.shows("#fc-alert-detail", lambda: ["would have sent", *{note["to"] for note in alert()["notifications"]}])
    rows = dashboard.live.get("/v1/alerts/routing")["items"]
    dashboard.shows("#fc-routing", lambda: [word for row in rows for word in (row["respond_within"], *row["route"])])
    dashboard.at(f"#fc-alerts [data-action=acknowledge][data-value='{number}']").click()
    wait_for(lambda: alert()["state"] == "acknowledged", "the acknowledgement")
    assert alert()["acknowledged_by"] == "admin"
    dashboard.shows("#fc-alerts", lambda: ["acknowledged"])
    dashboard.at(f"#fc-alerts [data-action=silence][data-value='{number}']").click()
    wait_for(lambda: dashboard.live.get("/v1/silences")["items"], "the silence")
    (silence,) = dashboard.live.get("/v1/silences")["items"]
    assert (silence["created_by"], silence["matchers"][0]) == ("admin", f'server="{DEGRADED}"')
    dashboard.shows("#fc-silences", lambda: silence["matchers"])
    dashboard.at(f"#fc-silences [data-action=unsilence][data-value='{silence['id']}']").click()
    wait_for(lambda: not dashboard.live.get("/v1/silences")["items"], "the end of the silence")


def test_every_tab_opens_without_an_error_and_asks_this_machine_only(dashboard: Dashboard) -> None:
    errors: list[str] = []
    dashboard.page.on("pageerror", lambda error: errors.append(str(error)))
    dashboard.enter()
    for tab, sign in TABS.items():
        dashboard.open(tab)
        dashboard.at(sign).first.wait_for()
    assert errors == []
    assert dashboard.page.locator("[id^=fc-][id$=-notice]:visible").all_inner_texts() == []
    assert len(dashboard.requests) > len(TABS)  # that all stay on this machine is checked by the fixture


def test_the_overview_counts_what_the_api_counts(dashboard: Dashboard) -> None:
    dashboard.enter()

    def counts() -> bool:
        summary = dashboard.live.get("/v1/fleet")["summary"]
        shown = {
            level: dashboard.text(f"#fc-overview-cards [data-level={level}]") for level in ("P1", "P2", "P3", "P4")
        }
        expected = {level: str(summary["by_level"].get(level, 0)) for level in shown}
        chances = [words.percent(summary["p_any_30m"]), words.percent(summary["p_any_8h"])]
        cards = dashboard.text("#fc-overview-cards")
        return shown == expected and f"servers {summary['servers']} " in cards and all(one in cards for one in chances)

    wait_for(counts, "the API's counts on the overview")
    dashboard.shows("#fc-header", lambda: _header(dashboard.live.get("/v1/status")))
    dashboard.shows("#fc-overview-side", lambda: [dashboard.live.get("/v1/status")["model"]["run"]])


def _header(status: dict[str, Any]) -> list[str]:
    cycle = status["cycle"]
    ready = "ready" if status["ready"] else "not ready"
    return [ready, f"{cycle['model']} of {cycle['servers']} servers forecast by the model"]


def test_the_servers_are_those_of_the_api_and_can_be_filtered(dashboard: Dashboard) -> None:
    dashboard.enter()

    def names() -> list[str]:
        return dashboard.at("#fc-servers [data-action=server]").all_inner_texts()

    def of_api(**query: Any) -> list[str]:
        return [item["server"] for item in dashboard.live.get("/v1/fleet", **query)["items"]]

    wait_for(lambda: names() == of_api(), "the fleet's servers in the order of their risk")
    dashboard.at("#fc-filter-profile input").click()
    dashboard.page.get_by_role("option", name="database").click()
    wait_for(lambda: names() == of_api(profile="database"), "the database servers")


def test_the_heatmap_draws_the_forecast_medians(dashboard: Dashboard) -> None:
    dashboard.enter()
    dashboard.open("Heatmap")

    def agreed() -> bool:
        found = dashboard.live.get("/v1/heatmap", metric="cpu_utilization")
        drawn = {
            server: row
            for trace in dashboard.traces("#fc-heatmap")
            for server, row in zip(trace["y"], trace["z"], strict=True)
        }
        expected = {
            server: row
            for block in found["profiles"].values()
            for server, row in zip(block["servers"], block["values"], strict=True)
        }
        return drawn.keys() == expected.keys() and all(_same(drawn[name], expected[name]) for name in drawn)

    wait_for(agreed, "the API's medians in the heatmap")


def _same(drawn: list[float | None], ratios: list[float | None]) -> bool:
    """Whether drawn per cents are the API's ratios."""
    return len(drawn) == len(ratios) and all(
        one is other if one is None or other is None else abs(one - other * 100) < 1e-6
        for one, other in zip(drawn, ratios, strict=True)
    )


def test_the_riskiest_server_is_on_top_with_its_fan_chart(dashboard: Dashboard) -> None:
    dashboard.enter()
    dashboard.open("Top risks")
    dashboard.shows("#fc-ranking", lambda: [dashboard.live.get("/v1/fleet", limit=1)["items"][0]["server"]])

    def agreed() -> bool:
        top = dashboard.live.get("/v1/fleet", limit=1)["items"][0]
        forecast = dashboard.live.get(f"/v1/servers/{top['server']}/forecast")
        large = [trace for trace in dashboard.traces("#fc-fan") if trace.get("xaxis", "x") == "x"]
        median = [trace["y"] for trace in large if trace["name"] == "median"]
        bands = {trace["name"] for trace in large if trace["name"].endswith("band")}
        expected = forecast["metrics"][top["metric"]]["quantiles"]["0.5"]
        return bool(median) and _same(median[0], expected) and bands == {"96 % band", "80 % band", "50 % band"}

    wait_for(agreed, "the API's median in the fan chart")
    dashboard.shows(
        "#fc-server-facts",
        lambda: [words.percent(dashboard.live.get("/v1/fleet", limit=1)["items"][0]["p_8h"]), "Time to breach"],
    )


def test_a_click_on_a_server_opens_its_forecast(dashboard: Dashboard) -> None:
    dashboard.enter()
    pressed = dashboard.at("#fc-servers [data-action=server]").nth(2)
    name = pressed.inner_text()
    pressed.click()
    dashboard.shows("#fc-server-title", lambda: [name, "forecast from"])


def test_the_trends_draw_the_means_of_the_profiles(dashboard: Dashboard) -> None:
    dashboard.enter()
    dashboard.open("Historical trends")

    def agreed() -> bool:
        found = dashboard.live.get("/v1/trends", metric="cpu_utilization", hours=24)["profiles"]
        drawn = {trace["name"]: trace["y"] for trace in dashboard.traces("#fc-trends") if trace["xaxis"] == "x"}
        return drawn.keys() == found.keys() and all(_same(drawn[name], found[name]["mean"]) for name in found)

    wait_for(agreed, "the API's means in the trends")


def test_an_edited_assumption_is_saved_with_its_author_and_changes_the_figures(dashboard: Dashboard) -> None:
    dashboard.enter()
    dashboard.open("Cost avoidance")
    hourly = dashboard.at("#fc-cost-downtime_usd_per_hour input")
    stored = dashboard.live.get("/v1/cost")["assumptions"]["values"]["downtime_usd_per_hour"]
    wait_for(lambda: hourly.input_value() == f"{stored:g}", "the stored assumption in the form")
    hourly.fill("61000")
    dashboard.at("#fc-cost-save").click()
    wait_for(lambda: dashboard.live.get("/v1/cost")["assumptions"]["author"] == "admin", "the saved assumptions")
    assert dashboard.live.get("/v1/cost")["assumptions"]["values"]["downtime_usd_per_hour"] == 61000

    def figures() -> list[str]:
        report = dashboard.live.get("/v1/cost")
        days = [words.money(report[span]["expected"]) for span in ("day", "month", "year") if report[span]]
        return [*days, words.money(report["avoided_usd"]), f"{report['expected_incidents']:.2f}", "assumptions"]

    dashboard.shows("#fc-cost-report", figures)
    dashboard.shows("#fc-cost-author", lambda: ["by admin"])


def test_a_scenario_button_reaches_the_demo_feed(dashboard: Dashboard) -> None:
    dashboard.enter()
    dashboard.at("#fc-scenario-cascade").click()
    wait_for(lambda: dashboard.live.get("/v1/demo")["scenario"] == "cascade", "the scenario")
    dashboard.shows("#fc-demo", lambda: ["cascade since"])


def test_the_buttons_of_a_reader_are_refused(dashboard: Dashboard) -> None:
    dashboard.enter("viewer")
    before = dashboard.live.get("/v1/demo")
    dashboard.at("#fc-scenario-critical").click()
    assert "operate" in dashboard.said()
    assert dashboard.live.get("/v1/demo") == before


def test_a_screenshot_is_made_when_a_place_for_it_is_named(dashboard: Dashboard, tmp_path: Path) -> None:
    picture = Path(os.environ.get("FLEETCAST_SCREENSHOT") or tmp_path / "dashboard.png")
    dashboard.enter()
    dashboard.open("Top risks")
    simulated = dashboard.at(f"#fc-ranking [data-action=server]:not([data-value={DEGRADED}])").first
    name = simulated.inner_text()
    simulated.click()
    dashboard.shows("#fc-server-title", lambda: [name])
    wait_for(lambda: dashboard.traces("#fc-fan"), "the fan chart")
    picture.parent.mkdir(parents=True, exist_ok=True)
    dashboard.page.screenshot(path=picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
