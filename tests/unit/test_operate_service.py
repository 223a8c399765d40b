"""What status and doctor say of a service is what it answers, and silence is not called ready."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import fleetcast
from fleetcast.contract.vocabulary import VERSION
from fleetcast.operate import locks
from fleetcast.operate.checks_components import SERVICE_PATHS, check_service
from fleetcast.operate.home import SERVICE_FILE, SERVICE_LOCK, make_home
from fleetcast.operate.status import collect_status
from fleetcast.operate.verdict import CheckResult, Verdict
from fleetcast.settings import Settings


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEETCAST_API_KEY", raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    make_home(tmp_path / "home")
    return Settings(home=tmp_path / "home", database_url=None)


def assert_says_what_to_do(result: CheckResult, verdict: Verdict, *words: str) -> None:
    assert result.verdict == verdict, result
    assert result.advice
    assert all(word in result.found for word in words), result.found


@contextmanager
def answering(answers: dict[str, tuple[int, Any]]) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A web server on loopback that gives these answers; yields its address and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            code, body = answers[self.path]
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_service_that_runs_is_asked_where_it_wrote_that_it_listens(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"/readyz": (503, {"reasons": ["no cycle yet"]}), "/v1/status": (200, {"ready": False, "servers": 25})}
    with answering(answers) as (address, asked), locks.hold(settings.home / SERVICE_LOCK):
        (settings.home / SERVICE_FILE).write_text(json.dumps({"address": address}))
        service = collect_status(settings)["service"]
        assert (service["up"], service["ready"], service["reasons"]) == (True, False, ["no cycle yet"])
        assert (service["address"], service["status"]) == (address, None)
        assert service["process"]["pid"] == os.getpid()
        assert asked == [("/readyz", None)]
        monkeypatch.setenv("FLEETCAST_API_KEY", "fc_key")
        assert collect_status(settings)["service"]["status"] == {"ready": False, "servers": 25}
        assert asked[-1] == ("/v1/status", "Bearer fc_key")
        answers["/v1/status"] = (401, {})
        assert collect_status(settings)["service"]["error"] == "/v1/status answered 401"


def test_a_service_that_does_not_answer_is_not_called_ready(settings: Settings) -> None:
    with answering({}) as (address, _):
        pass
    with locks.hold(settings.home / SERVICE_LOCK):
        (settings.home / SERVICE_FILE).write_text(json.dumps({"address": address}))
        service = collect_status(settings)["service"]
        assert (service["up"], service["ready"]) == (True, None)
        assert "ConnectError" in service["error"]


def test_service_verdicts(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_says_what_to_do(check_service(settings), Verdict.SKIP, "none runs")
    status = {"version": fleetcast.__version__, "contract_version": VERSION, "ready": True, "reasons": []}
    answers = {"/openapi.json": (200, {"paths": {path: {} for path in SERVICE_PATHS}}), "/v1/status": (200, status)}
    with answering(answers) as (address, _), locks.hold(settings.home / SERVICE_LOCK):
        (settings.home / SERVICE_FILE).write_text(f'{{"address": "{address}"}}')
        assert_says_what_to_do(check_service(settings), Verdict.WARN, "not asked")
        monkeypatch.setenv("FLEETCAST_API_KEY", "fc_key")
        assert check_service(settings).verdict == Verdict.OK
        answers["/v1/status"] = (200, {**status, "ready": False, "reasons": ["no model"]})
        assert_says_what_to_do(check_service(settings), Verdict.WARN, "not ready", "no model")
        answers["/v1/status"] = (200, {**status, "contract_version": "0.1.0"})
        assert_says_what_to_do(check_service(settings), Verdict.FAIL, "contract 0.1.0", VERSION)
        answers["/v1/status"] = (401, {})
        assert_says_what_to_do(check_service(settings), Verdict.FAIL, "401")
        answers["/openapi.json"] = (200, {"paths": {}})
        assert_says_what_to_do(check_service(settings), Verdict.FAIL, "/v1/samples")


def test_the_api_that_is_checked_for_is_the_one_that_the_service_has() -> None:
    from serve_app.routes import alerts, fleet, intake, remediation

    paths = {route.path for group in (alerts, fleet, intake, remediation) for route in group.router.routes}  # type: ignore[attr-defined]
    assert set(SERVICE_PATHS) <= paths
