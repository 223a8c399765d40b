"""What tests of one running service share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx

from fleetcast.clock import ClockSpec
from tests import waiting

STEP = timedelta(seconds=300)
SPEED = 40.0
PATIENCE_S = 120.0
wait_for = partial(waiting.wait_for, patience_s=PATIENCE_S)
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


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def row_of(server: str, moment: datetime, **metrics: float) -> dict[str, Any]:
    return {"server": server, "timestamp": moment.isoformat(), **metrics}


def seen(running: Running) -> set[str]:
    return {item["server"] for item in running.get("/v1/fleet", limit=1000)["items"]}


def item_of(running: Running, server: str) -> dict[str, Any] | None:
    items = running.get("/v1/fleet", limit=1000)["items"]
    return next((item for item in items if item["server"] == server), None)
