"""The address that the service listens on: loopback unless allowed otherwise, and free."""

from __future__ import annotations

import ipaddress
import socket

from fleetcast.errors import UsageError
from fleetcast.settings import ServiceSettings


def check_address(settings: ServiceSettings) -> None:
    """Raise `UsageError` for an address that other machines reach, unless that is allowed, or a port in use."""
    if not _is_loopback(settings.host) and not settings.allow_remote:
        raise UsageError(
            f"host {settings.host} can be reached by other machines: use 127.0.0.1, or set "
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
