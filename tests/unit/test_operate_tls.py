"""A certificate that cannot be used stops the start, one that can opens other addresses than loopback."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from fleetcast.errors import UsageError
from fleetcast.operate.address import check_address
from fleetcast.operate.tls import trust
from fleetcast.settings import ServiceSettings
from tests.certificate import make_certificate
from tests.prometheus import free_port


def test_an_address_that_others_reach_needs_a_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with pytest.raises(UsageError, match="TLS_CERTIFICATE"):
        check_address(ServiceSettings(host="0.0.0.0", port=free_port()))
    check_address(ServiceSettings(host="0.0.0.0", port=free_port(), tls_certificate=certificate, tls_key=key))


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path / "a")
    _, other = make_certificate(tmp_path / "b")
    (tmp_path / "text").write_text("no PEM")
    pairs = [
        (certificate, None),
        (None, key),
        (certificate, other),
        (certificate, tmp_path / "nothing"),
        (tmp_path / "text", key),
    ]
    for one, two in pairs:
        with pytest.raises(UsageError, match=r"both|cannot be used"):
            check_address(ServiceSettings(port=free_port(), tls_certificate=one, tls_key=two))


def test_the_parts_of_the_service_verify_its_certificate(tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path)
    context = trust(certificate)
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert trust(None) is True
