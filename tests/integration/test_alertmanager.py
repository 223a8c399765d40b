"""Debian's Alertmanager takes an incident, keeps it as one alert however often it comes, and sees it end.

One that was started anew, and so knows nothing, is told again of what is live.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetcast.alerting.dispatch import Dispatcher
from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.notifiers.alertmanager import AlertmanagerNotifier
from fleetcast.alerting.notifiers.build import build_notifiers
from fleetcast.alerting.notifiers.port import DeliveryError, Message
from fleetcast.alerting.outbound import Outbound
from fleetcast.alerting.receivers import Alertmanager
from fleetcast.alerting.routing import Routing
from fleetcast.settings import AlertSettings
from fleetcast.store.engine import open_store
from tests.prometheus import free_port, wait_for_http
from tests.unit.test_alerting import risk

ROUTING = """
receivers:
  prom: {{channel: Alertmanager, to: Alertmanager, url: "http://{address}"}}
route: {{name: all, receivers: [prom], shadow: false}}
"""
CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@contextmanager
def alertmanager(folder: Path, address: str) -> Iterator[str]:
    """An Alertmanager of this folder; yields its URL."""
    (folder / "config.yml").write_text(CONFIG)
    command = [
        *("prometheus-alertmanager", f"--config.file={folder / 'config.yml'}", f"--storage.path={folder / 'data'}"),
        *(f"--web.listen-address={address}", "--cluster.listen-address=", "--log.level=warn"),
    ]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for_http(f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with alertmanager(tmp_path_factory.mktemp("alertmanager"), f"127.0.0.1:{free_port()}") as found:
        yield found


def message(action: Any, text: str = "[P2] web1 <b>") -> Message:
    now = datetime.now(UTC)
    facts = {
        "incident": "fleetcast/7/web1/memory_used", "server": "web1", "profile": "web_api", "metric": "memory_used",
        "labels": {"team": "shop", "empty": ""}, "opened_at": now.isoformat(), "state": "open",
    }  # fmt: skip
    return Message(f"key/{action}", action, "P2", text, now, facts)


def active(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
    return found


def test_an_incident_is_one_alert_from_its_begin_to_its_end(url: str, tmp_path: Path) -> None:
    notifier = AlertmanagerNotifier(Alertmanager(channel="Alertmanager", to="x", url=url), Outbound(["127.0.0.0/8"]))
    notifier.send(message("trigger"))
    notifier.send(message("trigger", "[P1] web1 worse"))
    (alert,) = active(url)
    assert alert["labels"] == {
        "alertname": "FleetCast", "server": "web1", "profile": "web_api", "metric": "memory_used", "team": "shop",
        "incident": "fleetcast/7/web1/memory_used",
    }  # fmt: skip
    assert alert["annotations"]["summary"] == "[P1] web1 worse"
    assert alert["status"]["state"] in {"active", "unprocessed"}
    notifier.send(message("resolve"))
    assert active(url) == []


def test_an_alertmanager_that_lost_its_memory_is_told_again_until_the_incident_ends(tmp_path: Path) -> None:
    address, late = f"127.0.0.1:{free_port()}", datetime.now(UTC)
    routing = tmp_path / "routing.yaml"
    routing.write_text(ROUTING.format(address=address))
    settings = AlertSettings(open_after_cycles=1, routing=routing, allow_private=["127.0.0.0/8"])
    store = open_store(f"sqlite:///{tmp_path / 'alerts.db'}")
    tree = Routing.load(routing, settings.shadow)
    engine = AlertEngine(store, settings, tree)
    dispatcher = Dispatcher(store, build_notifiers(tree.receivers, settings), settings, now=lambda: late)
    with alertmanager(tmp_path, address) as url:
        (opened,) = engine.observe([risk("P1")], late).opened
        assert dispatcher.run_once().sent == 1
        (alert,) = active(url)

        late += timedelta(seconds=settings.renew_s / 2)
        assert dispatcher.run_once().sent == 0, "it is not told without end"
    with alertmanager(tmp_path, address) as url:
        assert active(url) == []
        late += timedelta(seconds=settings.renew_s)
        assert dispatcher.run_once().sent == 1
        (again,) = active(url)
        assert again["labels"] == alert["labels"]

        engine.resolve(opened.id, "ann", late)
        late += timedelta(seconds=settings.renew_s)
        dispatcher.run_once()
        assert active(url) == []
        late += timedelta(seconds=settings.renew_s)
        assert dispatcher.run_once().sent == 0, "an end is told once"


def test_what_alertmanager_refuses_is_not_tried_again(url: str) -> None:
    notifier = AlertmanagerNotifier(
        Alertmanager(channel="Alertmanager", to="x", url=f"{url}/nowhere"), Outbound(["127.0.0.0/8"])
    )
    with pytest.raises(DeliveryError) as refused:
        notifier.send(message("trigger"))
    assert not refused.value.retry
