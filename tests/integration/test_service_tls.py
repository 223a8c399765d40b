"""With a certificate the service speaks TLS and nothing else, and its own parts know it by that certificate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from fleetcast.operate.service_client import ask
from fleetcast.operate.tls import trust
from fleetcast.settings import ServiceSettings
from fleetcast.store.engine import open_store
from fleetcast.store.keys import create_key
from tests.certificate import make_certificate
from tests.integration.served import bearer
from tests.prometheus import free_port

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def served(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path, str]]:
    """Port, certificate and key of a service that takes samples over TLS."""
    from ray import serve

    from serve_app.app import build_intake
    from serve_app.arguments import AppArgs
    from serve_app.launcher import http_options

    folder = tmp_path_factory.mktemp("tls")
    certificate, key = make_certificate(folder)
    service = ServiceSettings(port=free_port(), ingress_replicas=1, tls_certificate=certificate, tls_key=key)
    database = f"sqlite:///{folder / 'fleetcast.db'}"
    with open_store(database).session() as session:
        api_key = create_key(session, "ann", ["read"], datetime.now(UTC))
    try:
        serve.start(http_options=http_options(service))
        serve.run(build_intake(AppArgs(bundle="", database=database, service=service), 100, "UTC"), name="tls")
        yield service.port, certificate, api_key
    finally:
        serve.shutdown()


def test_it_answers_over_tls_to_who_trusts_its_certificate(served: tuple[int, Path, str]) -> None:
    port, certificate, key = served
    with httpx.Client(verify=trust(certificate), trust_env=False, timeout=30) as client:
        assert client.get(f"https://127.0.0.1:{port}/v1/whoami", headers=bearer(key)).json()["name"] == "ann"
    answer = ask(f"https://127.0.0.1:{port}", "/v1/whoami", key, certificate)
    assert (answer.code, answer.error) == (200, None)


def test_a_client_that_does_not_trust_it_sends_nothing(served: tuple[int, Path, str], tmp_path: Path) -> None:
    port, _, key = served
    other, _ = make_certificate(tmp_path)
    for verify in (True, trust(other)):
        with (
            httpx.Client(verify=verify, trust_env=False) as client,
            pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            client.get(f"https://127.0.0.1:{port}/v1/whoami", headers=bearer(key))
    assert "CERTIFICATE_VERIFY_FAILED" in (ask(f"https://127.0.0.1:{port}", "/healthz", certificate=other).error or "")


def test_plain_http_gets_no_answer(served: tuple[int, Path, str]) -> None:
    port, _, key = served
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/v1/whoami", headers=bearer(key), trust_env=False)
