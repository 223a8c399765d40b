"""What tests of one running service share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from fleetcast.clock import ClockSpec

STEP = timedelta(seconds=300)
SPEED = 40.0
PATIENCE_S = 240.0
NEWCOMER, DEGRADED = "ppweb9001", "ppml9002"
HEALTHY = {"cpu_utilization": 0.5, "cpu_iowait": 0.02, "filesystem_used": 0.5, "load1_per_core": 0.6}


@dataclass
class Running:
    """The service, its keys by name, and a client with all scopes."""

    address: str
    keys: dict[str, str]
    client: httpx.Client
    clock: ClockSpec

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post_samples(self, rows: list[dict[str, Any]]) -> httpx.Response:
        return self.client.post("/v1/samples", json={"samples": rows})

    def now(self) -> datetime:
        return datetime.fromisoformat(self.get("/v1/status")["clock"]["now"])

    def complete(self) -> datetime:
        """Start of the newest cell that the service's clock has passed."""
        seconds = int(self.now().timestamp()) // 300 * 300 - 300
        return datetime.fromtimestamp(seconds, UTC)


def wait_for(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.3)
    raise AssertionError(f"{what} did not come about within {PATIENCE_S:g} s")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def row_of(server: str, moment: datetime, **metrics: float) -> dict[str, Any]:
    return {"server": server, "timestamp": moment.isoformat(), **metrics}


def seen(running: Running) -> set[str]:
    return {item["server"] for item in running.get("/v1/fleet", limit=1000)["items"]}


def item_of(running: Running, server: str) -> dict[str, Any] | None:
    items = running.get("/v1/fleet", limit=1000)["items"]
    return next((item for item in items if item["server"] == server), None)
