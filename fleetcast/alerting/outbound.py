"""Requests that leave: guarded against server-side request forgery.

Every address that a name resolves to is checked, and the connection goes to one that was checked, whatever the name
means a moment later. Only public addresses are allowed, and networks of an allow-list. Redirects and proxies are not
followed, and answers are read up to a limit.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from fleetcast.errors import UsageError

MOST_ANSWER = 64 * 1024
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_TRANSLATED = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"), ipaddress.ip_network("::/96"))


class ForbiddenTargetError(UsageError):
    """An address that notifications must not go to."""


@dataclass(frozen=True)
class Answer:
    """What a server answered; `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """Sends requests to public addresses and to those of the networks allowed.

    Raises `UsageError` for a network that is none, or certificates that cannot be read.
    """

    def __init__(self, allow_private: Iterable[str] = (), timeout_s: float = 10.0, ca_file: Path | None = None) -> None:
        try:
            self._allowed = [ipaddress.ip_network(text) for text in allow_private]
        except ValueError as error:
            raise UsageError(f"alerts.allow_private: {error}; write for example 10.0.0.0/8") from error
        self._timeout, self._tls = httpx.Timeout(timeout_s), trust(ca_file)

    def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        """Post to a URL. Raises `ForbiddenTargetError`, and `httpx.TransportError` where there is no answer."""
        target = httpx.URL(url)
        if target.scheme not in ("http", "https") or not target.host or target.userinfo:
            raise ForbiddenTargetError("a target is http:// or https:// with a host, and without a user")
        port = target.port or (443 if target.scheme == "https" else 80)
        addresses = self.resolve(target.host, port)
        last: httpx.TransportError | None = None
        for address in addresses:
            try:
                return self._send(target, address, content, headers)
            except httpx.ConnectError as error:
                last = error
        assert last is not None  # there is at least one address
        raise last

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all allowed. Raises `ForbiddenTargetError`, `httpx.ConnectError` without any."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(f"cannot resolve the host of the target: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for text in addresses:
            if not self._allows(ipaddress.ip_address(text.partition("%")[0])):
                raise ForbiddenTargetError(
                    f"the target's host resolves to {text}, which is not public: FLEETCAST_ALERTS__ALLOW_PRIVATE "
                    "lists the networks that are allowed all the same"
                )
        return addresses

    def _allows(self, address: IpAddress) -> bool:
        plain = _unwrapped(address)
        if any(plain.version == network.version and plain in network for network in self._allowed):
            return True
        translated = any(plain.version == network.version and plain in network for network in _TRANSLATED)
        return plain.is_global and not plain.is_multicast and not translated

    def _send(self, target: httpx.URL, address: str, content: bytes, headers: Mapping[str, str]) -> Answer:
        """Connect to the address, and speak (and check the certificate) as to the host.

        The transport is used without a client: that would write the URL, which may be a secret, into the log.
        """
        request = httpx.Request(
            "POST",
            target.copy_with(host=address),
            headers={"Host": target.netloc.decode("ascii"), "User-Agent": "FleetCast", **headers},
            content=content,
            extensions={"timeout": self._timeout.as_dict(), "sni_hostname": target.host},
        )
        with httpx.HTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = transport.handle_request(request)
            try:
                body = b""
                for chunk in response.iter_raw(8192):
                    body += chunk
                    if len(body) >= MOST_ANSWER:
                        break
            finally:
                response.close()
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status_code, lower, body[:MOST_ANSWER])


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Certificates of the system, and those of a file. Raises `UsageError` when the file cannot be read."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"alerts.ca_file: cannot read certificates from {ca_file}: {error}") from error
    return context


def _unwrapped(address: IpAddress) -> IpAddress:
    """An IPv4 address inside an IPv6 one, as itself."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
