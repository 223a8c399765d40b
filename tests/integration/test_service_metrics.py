"""The real Prometheus scrapes the service and has its forecasts, risks and counts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.served import DEGRADED, Running, bearer, wait_for
from tests.prometheus import Prometheus, prometheus

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: fleetcast
    authorization: {{type: Bearer, credentials_file: {key}}}
    static_configs: [{{targets: ["{target}"]}}]
"""


def test_metrics_need_a_key_that_may_read(running: Running) -> None:
    address = f"{running.address}/metrics"
    assert httpx.get(address, trust_env=False).status_code == 401
    assert httpx.get(address, headers=bearer(running.keys["write"]), trust_env=False).status_code == 403
    answer = httpx.get(address, headers=bearer(running.keys["read"]), trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def query(server: Prometheus, expression: str) -> list[tuple[dict[str, str], float]]:
    return server.query(expression, time.time())


def test_prometheus_has_the_forecasts_that_the_api_serves(filled: Running, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(filled.keys["read"])
    target = filled.address.removeprefix("http://")
    with prometheus(tmp_path, CONFIG.format(key=tmp_path / "key", target=target)) as server:
        selector = f'fleetcast_forecast{{server="{DEGRADED}",metric="memory_used",quantile="0.5"}}'
        wait_for(lambda: query(server, selector), "a forecast in Prometheus")
        wait_for(lambda: _same(filled, server, selector), "the forecast of the API in Prometheus")
        assert query(server, 'up{job="fleetcast"}')[0][1] == 1
        assert {labels["source"] for labels, _ in query(server, "fleetcast_servers")} == {"model", "fallback", "none"}
        assert query(server, f'fleetcast_risk_level{{server="{DEGRADED}"}}')[0][1] == 1
        assert query(server, 'fleetcast_samples_total{outcome="new"}')[0][1] > 0
        wait_for(lambda: query(server, 'fleetcast_requests_total{status="200"}'), "counted requests")
        wait_for(lambda: query(server, 'fleetcast_forecaster_batches_total{kind="shards"}'), "counted runs")
        matured = 'fleetcast_matured_points_total{horizon="30m",metric="memory_used"}'
        wait_for(lambda: [one for one in query(server, matured) if one[1] > 0], "forecasts whose time has come")


def _same(filled: Running, server: Prometheus, selector: str) -> bool:
    """Whether both tell the same of one origin: a cycle may end between the two questions."""
    answer: Any = filled.get(f"/v1/servers/{DEGRADED}/forecast")
    expected = answer["metrics"]["memory_used"]["quantiles"]["0.5"]
    found = {labels["horizon"]: value for labels, value in query(server, selector)}
    return found == {"30m": pytest.approx(expected[5], abs=1e-6), "480m": pytest.approx(expected[95], abs=1e-6)}
