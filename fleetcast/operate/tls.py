"""The service's certificate: checked before it starts, and trusted by its own parts."""

from __future__ import annotations

import ssl
from pathlib import Path

from fleetcast.errors import UsageError
from fleetcast.settings import ServiceSettings


def check_certificate(settings: ServiceSettings) -> None:
    """Raise `UsageError` unless certificate and key are both set and fit each other, or neither is set."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise UsageError("TLS needs both FLEETCAST_SERVICE__TLS_CERTIFICATE and FLEETCAST_SERVICE__TLS_KEY")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the certificate {certificate} and its key {key} cannot be used ({error}): expected are PEM files, "
            "the key without a password"
        ) from error


def trust(certificate: str | Path | None) -> ssl.SSLContext | bool:
    """What a client on the service's own machine verifies with.

    With a certificate it trusts that one alone, under whatever name: the service is asked at its loopback address,
    which the certificate does not name. Without one, the certificates that the system trusts.
    """
    if certificate is None:
        return True
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it need not be signed by itself
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")
