"""Requests leave to public addresses and allowed networks only, whatever the name in the URL says."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleetcast.alerting.outbound import MOST_ANSWER, ForbiddenTargetError, Outbound
from fleetcast.errors import UsageError
from tests.certificate import make_certificate
from tests.loopback import Answer, loopback

INSIDE = [
    "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1", "192.0.2.1", "198.18.0.1",
]  # fmt: skip


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """The resolver gives these answers, one after the other; returns the names that were asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *others: int, **named: int) -> Any:
        if host.replace(".", "").isdigit():
            return real(host, port, *others, **named)
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("address", INSIDE)
def test_no_address_inside_is_a_target(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, [address])
    with pytest.raises(ForbiddenTargetError, match="not public"):
        Outbound().post("http://innocent.example/x", b"", {})


def test_one_address_inside_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(ForbiddenTargetError, match=r"10\.0\.0\.1"):
        Outbound().resolve("innocent.example", 443)


@pytest.mark.parametrize("url", ["http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://localhost/"])
def test_other_spellings_of_an_address_inside_are_no_way_round(url: str) -> None:
    with pytest.raises(ForbiddenTargetError, match="not public"):
        Outbound().post(url, b"", {})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gopher://x/", "http://user:word@example.org/", "http:///x"])
def test_only_http_without_a_user_is_a_target(url: str) -> None:
    with pytest.raises(ForbiddenTargetError, match="a target is http"):
        Outbound(["0.0.0.0/0"]).post(url, b"", {})


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means another address at the second question (DNS rebinding) is asked for once."""
    with loopback() as receiver:
        asked = resolving(monkeypatch, ["127.0.0.1"], ["10.9.9.9"])
        answer = Outbound(["127.0.0.0/8"]).post(f"http://innocent.example:{receiver.port}/a?b=c", b"{}", {})
        assert answer.status == 202
        assert asked == ["innocent.example"]
        (request,) = receiver.requests
        assert (request.path, request.headers["host"]) == ("/a?b=c", f"innocent.example:{receiver.port}")


def test_the_certificate_is_checked_against_the_name_though_the_connection_is_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path, "innocent.example")
    resolving(monkeypatch, ["127.0.0.1"])
    with loopback(certificate=certificate) as receiver:
        outbound = Outbound(["127.0.0.0/8"], ca_file=certificate[0])
        assert outbound.post(f"https://innocent.example:{receiver.port}/", b"", {}).status == 202
        with pytest.raises(httpx.ConnectError, match="certificate"):
            outbound.post(f"https://other.example:{receiver.port}/", b"", {})
        with pytest.raises(httpx.ConnectError, match="certificate"):
            Outbound(["127.0.0.0/8"]).post(f"https://innocent.example:{receiver.port}/", b"", {})


def test_the_next_address_is_tried_where_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback() as receiver:
        resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"])
        assert Outbound(["127.0.0.0/8"]).post(f"http://two.example:{receiver.port}/", b"", {}).status == 202


def test_an_address_of_version_6_is_reached() -> None:
    with socket.socket(socket.AF_INET6) as closed:
        closed.bind(("::1", 0))
        url = f"http://[::1]:{closed.getsockname()[1]}/"
        with pytest.raises(httpx.ConnectError, match="refused"):
            Outbound(["::1/128"]).post(url, b"", {})


@pytest.mark.parametrize(
    "make", [lambda: Answer(302, {"Location": "http://10.0.0.1/"}), lambda: Answer(200, {}, b"x" * 2**20)]
)
def test_redirects_are_not_followed_and_answers_have_an_end(make: Callable[[], Answer]) -> None:
    with loopback() as receiver:
        receiver.script.append(make())
        answer = Outbound(["127.0.0.0/8"]).post(receiver.url, b"", {})
        assert len(receiver.requests) == 1
        assert len(answer.body) <= MOST_ANSWER


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with loopback() as receiver:
        assert Outbound(["127.0.0.0/8"]).post(receiver.url, b"", {}).status == 202


def test_a_wrong_network_is_refused_with_its_setting() -> None:
    with pytest.raises(UsageError, match=r"alerts\.allow_private.*10\.0\.0\.1/8"):
        Outbound(["10.0.0.1/8"])
