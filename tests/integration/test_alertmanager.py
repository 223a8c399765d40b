"""Debian's Alertmanager takes an incident, keeps it as one alert however often it comes, and sees it end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetcast.alerting.notifiers.alertmanager import AlertmanagerNotifier
from fleetcast.alerting.notifiers.port import DeliveryError, Message
from fleetcast.alerting.outbound import Outbound
from fleetcast.alerting.receivers import Alertmanager
from tests.prometheus import free_port, wait_for_http

CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, address = tmp_path_factory.mktemp("alertmanager"), f"127.0.0.1:{free_port()}"
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
        process.terminate()
        process.wait(30)


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


def test_what_alertmanager_refuses_is_not_tried_again(url: str) -> None:
    notifier = AlertmanagerNotifier(
        Alertmanager(channel="Alertmanager", to="x", url=f"{url}/nowhere"), Outbound(["127.0.0.0/8"])
    )
    with pytest.raises(DeliveryError) as refused:
        notifier.send(message("trigger"))
    assert not refused.value.retry
