"""HTTP APIs as executors: Rundeck, StackStorm, AWX, a scheduler's REST API, a load balancer.

Only targets of the settings are called, and of these only the requests that they allow. Redirects are not followed and
no proxy of the environment is used. Every request carries the action's id as `Idempotency-Key`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import httpx

from fleetcast.errors import ConflictError
from fleetcast.remediation.calls import Call, HttpCall, in_words
from fleetcast.remediation.checks import Answers
from fleetcast.remediation.executor import Result
from fleetcast.settings import HttpTarget

NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
NOT_TAKEN = frozenset({429, 503})


class HttpExecutor:
    """Sends requests to targets by their names."""

    def __init__(self, targets: Mapping[str, HttpTarget]) -> None:
        self._targets = targets

    def rehearse(self, call: Call) -> str:
        """Check the target, the request and that the token can be read; nothing is sent."""
        assert isinstance(call, HttpCall)
        self._headers(self._allowed(call.target, call.method, call.path))
        return in_words(call)

    def perform(self, action_id: str, call: Call, undoes: str | None = None) -> Result:
        """Send the request; once more under the same id when its end is unclear and that cannot repeat it."""
        assert isinstance(call, HttpCall)
        try:
            result = self._send(action_id, call, undoes)
            if result.outcome != "unknown":
                return result
            known = self.recover(action_id, call)
            if known is None:
                return self._send(action_id, call, undoes)
            return result if known.outcome == "unknown" else known
        except ConflictError as error:
            return Result("failed", str(error))

    def recover(self, action_id: str, call: Call) -> Result | None:
        """Ask the target where it can be asked; where it takes an id once, the request may simply be sent again."""
        assert isinstance(call, HttpCall)
        target = self._allowed(call.target, call.method, call.path)
        if target.lookup is not None:
            return self._look_up(target, action_id)
        if target.honours_keys or call.method == "GET":
            return None
        return Result("unknown", f"{in_words(call)} was sent, or was about to be; {call.target} cannot be asked")

    def probe(self, check: Answers) -> str | None:
        """What is wrong with the answer that a check asks for; None when it is as it should be."""
        try:
            target = self._allowed(check.target, "GET", check.path)
            found = self._request(target, "GET", check.path).status_code
        except ConflictError as error:
            return str(error)
        except httpx.HTTPError as error:
            return f"no answer ({type(error).__name__})"
        return None if found == check.status else f"it answered {found}"

    def _send(self, action_id: str, call: HttpCall, undoes: str | None) -> Result:
        target = self._allowed(call.target, call.method, call.path)
        headers = {"Idempotency-Key": action_id, **({"FleetCast-Undoes": undoes} if undoes else {})}
        try:
            answer = self._request(target, call.method, call.path, call.body, headers)
        except NOT_SENT as error:
            return Result("failed", f"{in_words(call)} was not sent: {type(error).__name__}")
        except httpx.HTTPError as error:
            return Result("unknown", f"{in_words(call)} got no answer: {type(error).__name__}")
        text = f"{in_words(call)} answered {answer.status_code}"
        if answer.is_success:
            return Result("done", text)
        sure = answer.status_code < 500 or answer.status_code in NOT_TAKEN
        return Result("failed" if sure else "unknown", text)

    def _look_up(self, target: HttpTarget, action_id: str) -> Result | None:
        assert target.lookup is not None
        path = target.lookup.replace("{action_id}", action_id)
        try:
            status = self._request(target, "GET", path).status_code
        except httpx.HTTPError as error:
            return Result("unknown", f"GET {path} got no answer: {type(error).__name__}")
        if status == httpx.codes.NOT_FOUND:
            return None
        return Result("done" if status == httpx.codes.OK else "unknown", f"GET {path} answered {status}")

    def _request(
        self,
        target: HttpTarget,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        sent = {**self._headers(target), **(headers or {})}
        trust = _trust(target)
        with httpx.Client(timeout=target.timeout_s, trust_env=False, follow_redirects=False, verify=trust) as client:
            return client.request(method, target.url.rstrip("/") + path, json=body or None, headers=sent)

    def _allowed(self, name: str, method: str, path: str) -> HttpTarget:
        target = self._targets.get(name)
        if target is None:
            raise ConflictError(f"there is no target {name!r}: set FLEETCAST_REMEDIATION__TARGETS")
        if not any(allows(rule, method, path) for rule in target.allow):
            raise ConflictError(f"the target {name!r} does not allow {method} {path}: it allows {target.allow}")
        return target

    @staticmethod
    def _headers(target: HttpTarget) -> dict[str, str]:
        if target.token_file is None:
            return {}
        try:
            return {target.token_header: target.token_prefix + target.token_file.read_text("utf-8").strip()}
        except OSError as error:
            raise ConflictError(f"cannot read the token of a target: {error}") from error


def _trust(target: HttpTarget) -> ssl.SSLContext | bool:
    """Whom to trust; nothing is loaded for a target without TLS."""
    if target.url.startswith("http://"):
        return False
    return ssl.create_default_context(cafile=target.ca_file) if target.ca_file else True


def allows(rule: str, method: str, path: str) -> bool:
    """Whether a rule `METHOD /a/*/b` allows a request: segment by segment, so that no name reaches another path."""
    wanted, _, pattern = rule.partition(" ")
    parts, segments = pattern.split("/"), path.split("/")
    if wanted != method or len(parts) != len(segments) or {".", ".."} & set(segments):
        return False
    return all(part == segment or (part == "*" and segment) for part, segment in zip(parts, segments, strict=True))
