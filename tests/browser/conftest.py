"""A real service with a live feed in processes of its own, and a real browser that notes every request."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from fleetcast.settings import Settings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_S = 180.0
SPEED = 10
DEGRADED = "ppml9002"
LOOPBACK = {"127.0.0.1", "localhost", "::1"}

Value = TypeVar("Value")


def wait_for(found: Callable[[], Value], what: str) -> Value:
    """The first true answer; a machine may be slow, so that only what never comes fails."""
    deadline = time.monotonic() + PATIENCE_S
    last: object = None
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        last = value
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come about within {PATIENCE_S:g} s; last seen: {last!r}")


@dataclass(frozen=True)
class LiveService:
    """Where the service is, the keys of its two people, and a client with all scopes."""

    address: str
    keys: dict[str, str]
    client: httpx.Client

    def get(self, path: str, **query: Any) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def live_service(
    tiny_bundle: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveService]:
    """`python -m serve_app` with the demo feed; a server of the fleet is in an incident, so that there is an alert."""
    folder = tmp_path_factory.mktemp("service")
    address = f"http://127.0.0.1:{_free_port()}"
    home, log = folder / "home", folder / "service.log"
    command = [sys.executable, "-m", "serve_app", "--model", str(tiny_bundle), "--feed", str(tiny_dataset)]
    command += ["--home", str(home), "--port", address.rpartition(":")[2], "--speed", str(SPEED)]
    alerts = {"FLEETCAST_ALERTS__OPEN_AFTER_CYCLES": "1", "FLEETCAST_ALERTS__RESOLVE_AFTER_CYCLES": "1000"}
    with log.open("w") as output:
        service = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **alerts}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: "FleetCast is up" in log.read_text() or service.poll() is not None, "the start of the service")
        assert service.poll() is None, log.read_text()
        key = wait_for(lambda: re.search(r"API key of .*: (fc_\S+)", log.read_text()), "the first API key")
        keys = {"admin": key[1], "viewer": _viewer_key(home)}
        bearer = {"Authorization": f"Bearer {keys['admin']}"}
        with httpx.Client(base_url=address, headers=bearer, timeout=40.0, trust_env=False) as client:
            live = LiveService(address, keys, client)
            _degrade(live)
            yield live
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(timeout=60)


def _viewer_key(home: Path) -> str:
    store = open_store(Settings(home=home).database)
    with store.session() as session:
        key = create_key(session, "viewer", ["read"], datetime.now(UTC))
    store.close()
    return key


def _degrade(live: LiveService) -> None:
    """Send a server whose memory has been critical for the last half hour until there is an alert on it."""
    sent: set[datetime] = set()

    def alerted() -> list[Any]:
        now = datetime.fromisoformat(live.get("/v1/status")["clock"]["now"])
        newest = datetime.fromtimestamp(int(now.timestamp()) // 300 * 300 - 300, UTC)
        if newest not in sent:
            answer = live.client.post("/v1/samples", json={"samples": [_sample(newest, step) for step in range(288)]})
            assert answer.status_code == 200, answer.text
            sent.add(newest)
        return [one for one in live.get("/v1/alerts", state="open")["items"] if one["server"] == DEGRADED]

    wait_for(alerted, f"an alert on {DEGRADED}")


def _sample(newest: datetime, step: int) -> dict[str, Any]:
    """A sample `step` steps before the newest one."""
    others = {"cpu_utilization": 0.5, "cpu_iowait": 0.02, "filesystem_used": 0.5, "load1_per_core": 0.6}
    moment = (newest - timedelta(minutes=5 * step)).isoformat()
    return {"server": DEGRADED, "timestamp": moment, "memory_used": 0.99 if step < 6 else 0.7, **others}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Dashboard:
    """A page of the dashboard and what it asked the network for."""

    live: LiveService
    page: Page
    requests: list[str]

    def log_in(self, name: str, key: str) -> None:
        self.page.goto(f"{self.live.address}/ui/")
        self.page.get_by_label("Key name").fill(name)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Log in").click()

    def enter(self, name: str = "admin") -> None:
        self.log_in(name, self.live.keys[name])
        self.page.wait_for_selector("#fc-servers table", timeout=PATIENCE_S * 1000)

    def open(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab).click()

    def at(self, selector: str) -> Locator:
        return self.page.locator(selector)

    def text(self, selector: str) -> str:
        """What is to be read there, on one line; empty when it is not there."""
        found = self.at(selector)
        return " ".join(found.first.inner_text().split()) if found.count() else ""

    def shows(self, selector: str, expected: Callable[[], list[str]]) -> None:
        """Wait until all the words that the API calls for are to be read at `selector`."""

        def agreed() -> bool:
            wanted, shown = expected(), self.text(selector)
            return bool(wanted) and all(word in shown for word in wanted)

        wait_for(agreed, f"{expected()} at {selector}, where there is {self.text(selector)[:400]!r}")

    def traces(self, selector: str) -> list[dict[str, Any]]:
        """What a chart draws."""
        script = "id => Array.from((document.querySelector(id + ' .js-plotly-plot') || {data: []}).data)"
        found: list[dict[str, Any]] = self.page.evaluate(script, selector)
        return found

    def said(self) -> str:
        """What the last button's answer says."""
        message = self.at(".toast-body").last
        message.wait_for(timeout=PATIENCE_S * 1000)
        return message.inner_text()


@pytest.fixture
def dashboard(live_service: LiveService, chromium: Browser) -> Iterator[Dashboard]:
    """A new browser session; at its end every request must have stayed on this machine."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000})
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    yield Dashboard(live_service, page, requests)
    context.close()
    elsewhere = [url for url in requests if urlsplit(url).scheme != "data" and urlsplit(url).hostname not in LOOPBACK]
    assert not elsewhere
