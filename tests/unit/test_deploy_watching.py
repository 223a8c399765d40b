"""The dashboard, the scrape configuration and the alert rules that are shipped fit the service and each other."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_serve_metrics import everything

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "fleetcast.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "fleetcast.json"
NAME = re.compile(r"\bfleetcast(?:_[a-z0-9_]+|:[a-z0-9_:]+)")

FIRES = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'fleetcast_clock_seconds', values: '1000+60x60'}}
      - {{series: 'fleetcast_forecast_origin_seconds', values: '1000+0x60'}}
      - {{series: 'fleetcast_ready', values: '1+0x60'}}
      - {{series: 'fleetcast_matured_points_total{{metric="memory_used",horizon="30m"}}', values: '0+100x600'}}
      - {{series: 'fleetcast_matured_inside_80_total{{metric="memory_used",horizon="30m"}}', values: '0+40x600'}}
      - {{series: 'fleetcast_matured_points_total{{metric="cpu_utilization",horizon="30m"}}', values: '0+100x600'}}
      - {{series: 'fleetcast_matured_inside_80_total{{metric="cpu_utilization",horizon="30m"}}', values: '0+80x600'}}
    alert_rule_test:
      - eval_time: 15m
        alertname: FleetCastForecastsOld
      - eval_time: 40m
        alertname: FleetCastForecastsOld
        exp_alerts:
          - exp_labels: {{severity: critical}}
            exp_annotations: {{summary: The newest forecast begins 40m 0s ago}}
      - eval_time: 40m
        alertname: FleetCastNotReady
      - eval_time: 5h
        alertname: FleetCastCoverageOff
        exp_alerts:
          - exp_labels: {{severity: warning, metric: memory_used, horizon: 30m}}
            exp_annotations: {{summary: 40% of memory_used lay in the 80 % band forecast 30m before}}
"""


def promtool(*arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def expressions() -> list[str]:
    """Every PromQL expression of the rules and the dashboard."""
    rules = [rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    targets = [target for panel in dashboard()["panels"] for target in panel["targets"]]
    return rules + [target["expr"].replace("$server", "web1") for target in targets if "expr" in target]


def test_promtool_takes_the_rules_and_the_configuration(tmp_path: Path) -> None:
    promtool("check", "rules", str(RULES))
    promtool("check", "config", "--syntax-only", str(RULES.with_name("prometheus.yml")))
    panels = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(expressions())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "test.yml").write_text(FIRES.format(rules=RULES))
    promtool("test", "rules", str(tmp_path / "test.yml"))


def test_rules_and_panels_name_only_series_that_there_are() -> None:
    recorded = {
        rule["record"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    there = {name for name, _ in everything()} | recorded
    named = {name for text in expressions() for name in NAME.findall(text)}
    variables = [variable["definition"] for variable in dashboard()["templating"]["list"]]
    named |= {name for text in variables for name in NAME.findall(text)}
    assert named, "the pattern finds names"
    assert named <= there, named - there


def test_panels_do_not_overlap_and_read_from_the_two_sources() -> None:
    sources = {
        one["uid"]: one["type"]
        for one in yaml.safe_load((DEPLOY / "grafana" / "datasources.yml").read_text())["datasources"]
    }
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        assert max(x for x, _ in cells) < 24
        assert sources[panel["datasource"]["uid"]] == panel["datasource"]["type"]


@pytest.mark.parametrize("panel", [p for p in json.loads(DASHBOARD.read_text())["panels"] if "url" in p["targets"][0]])
def test_panels_on_the_api_ask_for_what_it_has(panel: Any) -> None:
    (target,) = panel["targets"]
    path = target["url"].partition("?")[0].replace("${server}", "{name}")
    routes = {route.path for route in _app_routes()}
    assert path in routes
    assert target["url_options"]["headers"] == [{"key": "Accept", "value": "text/csv"}]
    columns = {column["selector"] for column in target["columns"]}
    assert columns <= _columns(path)


def _app_routes() -> list[Any]:
    from serve_app.routes import fleet

    return list(fleet.router.routes)


def _columns(path: str) -> set[str]:
    from fleetcast.contract.schema import forecast_schema
    from serve_app.tables import fleet_table

    tables = {
        "/v1/servers/{name}/forecast": forecast_schema((0.1, 0.5, 0.9)).names,
        "/v1/fleet": fleet_table([]).schema.names,
    }
    return set(tables[path])
