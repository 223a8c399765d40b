"""The address that the service listens on: loopback unless allowed otherwise, and free."""

from __future__ import annotations

import ipaddress
import socket

from fleetcast.errors import UsageError
from fleetcast.operate.tls import check_certificate
from fleetcast.settings import ServiceSettings


def check_address(settings: ServiceSettings) -> None:
    """Raise `UsageError` for a certificate that cannot be used, a port in use, and an address that others reach.

    The latter needs a certificate, or to be allowed without one.
    """
    check_certificate(settings)
    if not _is_loopback(settings.host) and settings.tls_certificate is None and not settings.allow_remote:
        raise UsageError(
            f"host {settings.host} can be reached by other machines, who would send their keys in the clear: use "
            "127.0.0.1, or set FLEETCAST_SERVICE__TLS_CERTIFICATE and FLEETCAST_SERVICE__TLS_KEY, or "
            "FLEETCAST_SERVICE__ALLOW_REMOTE=true when a proxy with TLS stands before it"
        )
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise UsageError(
                f"cannot listen on {settings.host} port {settings.port} ({error.strerror}): stop what uses it or "
                "choose another with --port"
            ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
