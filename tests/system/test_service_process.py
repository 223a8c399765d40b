"""`python -m serve_app` as a user runs it: real processes, one of them killed, all of them ended by Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetcast.operate import locks
from fleetcast.operate.home import SERVICE_FILE, SERVICE_LOCK
from serve_app.processes import descendants, end, is_alive
from tests import waiting
from tests.system.witness import PATIENCE_S, witnessed

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
KEY = r"fc_[A-Za-z0-9_-]{43}"
wait_for = partial(waiting.wait_for, patience_s=PATIENCE_S)


@dataclass
class Running:
    """The started service."""

    process: subprocess.Popen[str]
    home: Path
    output: Path
    address: str
    key: str = ""

    def printed(self) -> str:
        return self.output.read_text()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


@pytest.fixture(scope="module")
def running(tiny_bundle: Path, tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    found = start(tmp_path_factory.mktemp("process"), tiny_bundle, fed_by(tiny_dataset))
    try:
        yield found
    finally:
        found.stop()


def fed_by(dataset: Path) -> list[str]:
    """Arguments for a feed whose clock runs 60 times as fast."""
    return ["--feed", str(dataset), "--speed", "60"]


def start(folder: Path, bundle: Path, source: Sequence[str], **variables: str) -> Running:
    """A service of the home in `folder` that is ready, with its key where it says one.

    `source` are the arguments that say where its samples come from, `variables` are of its environment.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "serve_app", "--model", str(bundle), *source),
        *("--home", str(folder / "home"), "--port", str(port)),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETCAST_", "RAY_"))}
    output = folder / f"output-{port}.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | variables,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    found = Running(process, folder / "home", output, f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: "Ctrl-C" in found.printed() or process.poll() is not None, "a running service")
        assert process.poll() is None, found.printed()
        if key := re.search(KEY, found.printed()):
            found.key = key.group()
    except BaseException:
        found.stop()
        raise
    return found


def process_of(service: int, title: str) -> int | None:
    """The service's process with this in its title."""
    for pid in descendants(service):
        if title.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def replica(service: int, deployment: str) -> int | None:
    return process_of(service, f"ServeReplica:fleetcast:{deployment}")


def client_of(running: Running) -> httpx.Client:
    headers = {"Authorization": f"Bearer {running.key}"}
    return httpx.Client(base_url=running.address, headers=headers, timeout=40.0, trust_env=False)


def wait_for_new_forecasts(client: httpx.Client) -> None:
    """Wait for a whole cycle that began after this call, with forecasts from the model and no error."""
    begun = wait_for(lambda: _status(client), "an answer")["clock"]["now"]

    def recovered() -> bool:
        status = _status(client)
        if not status or not status["ready"] or status["cycle"]["error"]:
            return False
        return datetime.fromisoformat(status["cycle"]["origin"]) > datetime.fromisoformat(begun)

    wait_for(recovered, "forecasts after recovery")


def _status(client: httpx.Client) -> Any:
    """The status; None while nobody listens or a part is away."""
    try:
        answer = client.get("/v1/status")
    except httpx.TransportError:
        return None
    assert answer.status_code in {200, 503}, answer.text
    return answer.json() if answer.status_code == 200 else None


def test_it_is_ready_says_where_it_is_and_shows_the_key_once(running: Running) -> None:
    written = json.loads((running.home / SERVICE_FILE).read_text())
    assert (written["pid"], written["address"]) == (running.process.pid, running.address)
    holder = locks.holder(running.home / SERVICE_LOCK)
    assert holder is not None
    assert holder.pid == running.process.pid
    assert httpx.get(f"{running.address}/readyz", trust_env=False).status_code == 200
    assert running.address in running.printed()
    assert len(re.findall(KEY, running.printed())) == 1


JOIN = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("joined", sum(ray.cluster_resources().values()) > 0)
"""


def test_its_ray_refuses_whoever_has_not_its_token(running: Running) -> None:
    below = descendants(running.process.pid)
    words = [word for pid in below for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
    address = next(word for word in words if word.startswith("--gcs-address=")).partition("=")[2]
    known = [word for pid in below for word in Path(f"/proc/{pid}/environ").read_text().split("\0")]
    token = next(word for word in known if word.startswith("RAY_AUTH_TOKEN=")).partition("=")[2]
    assert join(address, {"RAY_AUTH_MODE": "disabled"}).returncode != 0
    assert join(address, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}).returncode != 0
    assert "joined True" in join(address, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}).stdout


def join(address: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A stranger's attempt to join the Ray at an address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETCAST_", "RAY_"))}
    command = [sys.executable, "-c", JOIN, address]
    return subprocess.run(
        command, env=environment | variables, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_second_service_in_the_same_home_is_refused_with_the_pid_of_the_first(running: Running) -> None:
    command = [sys.executable, "-m", "serve_app", "--model", "any", "--home", str(running.home), "--port", "1"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        command[-1] = str(probe.getsockname()[1])
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 1
    assert str(running.process.pid) in found.stderr


def test_a_critical_scenario_shows_up_in_forecasts_risk_alerts_and_plans(running: Running) -> None:
    with client_of(running) as client:

        def get(path: str) -> Any:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json()

        before = {item["server"]: item for item in get("/v1/fleet")["items"]}
        first_steps = {name: _medians(get(f"/v1/servers/{name}/forecast")) for name in before}
        answer = client.put("/v1/demo/scenario", json={"name": "critical"})
        assert answer.status_code == 200, answer.text
        since = datetime.fromisoformat(answer.json()["since"])
        told = r"feed: scenario critical from \S+ on (.+)"
        struck = wait_for(lambda: re.search(told, running.printed()), "the feed's scenario")[1].split(", ")
        assert set(struck) <= set(before)

        def shown() -> list[str]:
            """The servers struck with a model forecast at a higher level than before, a new alert and a plan for it."""
            fleet = {item["server"]: item for item in get("/v1/fleet")["items"]}
            alerts = [one for one in get("/v1/alerts")["items"] if one["state"] == "open" and one["server"] in struck]
            planned = {plan["alert_id"]: plan["server"] for plan in get("/v1/remediation/plans")["items"]}
            found = []
            for alert in alerts:
                server, metric = alert["server"], alert["metric"]
                item = fleet[server]
                if (
                    datetime.fromisoformat(alert["first_seen_at"]) > since
                    and planned.get(alert["id"]) == server
                    and item["source"] == "model"
                    and item["level"] < before[server]["level"]
                    and (item["open"] or item["p_8h"] > before[server]["p_8h"])
                    and _medians(get(f"/v1/servers/{server}/forecast"))[metric] > first_steps[server][metric]
                ):
                    found.append(server)
            return found

        wait_for(shown, f"a raised forecast, an alert and a plan for one of {struck}")


def _medians(forecast: Any) -> dict[str, float]:
    """The medians of a server's forecast for the next step, by metric."""
    return {name: found["quantiles"]["0.5"][0] for name, found in forecast["metrics"].items()}


def test_acknowledged_samples_survive_the_killing_of_the_history_and_the_service_recovers(running: Running) -> None:
    with client_of(running) as client, witnessed(running):
        now = datetime.fromisoformat(client.get("/v1/status").json()["clock"]["now"])
        moment = datetime.fromtimestamp(int(now.timestamp()) // 300 * 300 - 300, UTC)
        row = {"server": "ppdb7777", "timestamp": moment.isoformat(), "cpu_utilization": 0.4375}
        victim = replica(running.process.pid, "history")
        assert victim is not None
        answer = client.post("/v1/samples", json={"samples": [row]})
        os.kill(victim, signal.SIGKILL)
        assert answer.json()["accepted"] == 1

        def history() -> Any:
            found = client.get("/v1/servers/ppdb7777/history", params={"hours": 80})
            return found.json() if found.status_code == 200 else None

        found = wait_for(history, "the samples after recovery")
        assert [value for value in found["metrics"]["cpu_utilization"] if value is not None] == [0.4375]
        assert replica(running.process.pid, "history") != victim
        wait_for_new_forecasts(client)


@pytest.mark.parametrize("deployment", ["forecaster", "watcher", "ingress"])
def test_forecasts_are_back_after_a_replica_was_killed(running: Running, deployment: str) -> None:
    victim = replica(running.process.pid, deployment)
    assert victim is not None
    with client_of(running) as client, witnessed(running):
        os.kill(victim, signal.SIGKILL)
        wait_for_new_forecasts(client)


@pytest.mark.parametrize("title", ["ServeController", "ProxyActor"])
def test_forecasts_are_back_after_a_part_of_serve_was_killed(running: Running, title: str) -> None:
    victim = process_of(running.process.pid, title)
    assert victim is not None
    with client_of(running) as client, witnessed(running):
        os.kill(victim, signal.SIGKILL)
        wait_for_new_forecasts(client)
    wait_for(lambda: process_of(running.process.pid, title) not in {None, victim}, f"another {title}")


def test_the_whole_service_is_killed_and_serves_what_it_had_acknowledged_and_forecast(
    running: Running, tiny_bundle: Path, tiny_dataset: Path
) -> None:
    with witnessed(running):
        kill_all_and_start_again(running, tiny_bundle, tiny_dataset)


def kill_all_and_start_again(running: Running, tiny_bundle: Path, tiny_dataset: Path) -> None:
    with client_of(running) as client:
        now = datetime.fromisoformat(client.get("/v1/status").json()["clock"]["now"])
        moment = datetime.fromtimestamp(int(now.timestamp()) // 300 * 300 - 300, UTC)
        row = {"server": "ppdb8888", "timestamp": moment.isoformat(), "cpu_utilization": 0.4375}
        forecast = client.get("/v1/forecasts", params={"at": now.isoformat(), "limit": 1}).json()
        answer = client.post("/v1/samples", json={"samples": [row]})
        below = descendants(running.process.pid)
        for pid in {running.process.pid, *below}:
            os.kill(pid, signal.SIGKILL)
        assert answer.json()["accepted"] == 1
    running.process.wait(30)
    end(below, 20.0)

    again = start(running.home.parent, tiny_bundle, fed_by(tiny_dataset))
    running.process, running.output, running.address = again.process, again.output, again.address
    with client_of(running) as client:
        wait_for_new_forecasts(client)
        found = client.get("/v1/servers/ppdb8888/history", params={"hours": 80}).json()
        assert [value for value in found["metrics"]["cpu_utilization"] if value is not None] == [0.4375]
        assert client.get("/v1/forecasts", params={"at": now.isoformat(), "limit": 1}).json() == forecast


def test_ctrl_c_ends_every_process_and_leaves_the_home_free(running: Running) -> None:
    below = descendants(running.process.pid)
    assert len(below) > 8
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(90) == 0, running.printed()
    assert [pid for pid in below if is_alive(pid)] == []
    assert not (running.home / SERVICE_FILE).exists()
    assert locks.holder(running.home / SERVICE_LOCK) is None
    assert "Stopped." in running.printed()
