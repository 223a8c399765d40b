"""From a host's labels to its name and profile, by rules as Prometheus has them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleetcast.contract.vocabulary import profile_from_host
from fleetcast.errors import UsageError
from fleetcast.settings import RelabelRule

logger = logging.getLogger(__name__)

SERVER, PROFILE = "server", "profile"
LONGEST_LABEL = 10_000  # a longer value is not kept
MOST_KNOWN = 2**17  # sets of labels that are remembered
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


@dataclass(frozen=True)
class Host:
    """A server and its profile."""

    server: str
    profile: str


class Relabeller:
    """Rules, compiled once; hosts are remembered."""

    def __init__(self, rules: Sequence[RelabelRule], keep: Sequence[str] = ()) -> None:
        """`keep` are names of labels that `taken_labels` tells. Raises `UsageError` for a rule that is none."""
        self._rules, self._keep = [(rule, _compiled(rule)) for rule in rules], keep
        self._known: dict[frozenset[tuple[str, str]], tuple[Host | None, dict[str, str]]] = {}
        self._seen: dict[str, dict[str, str]] = {}

    def taken_labels(self) -> dict[str, dict[str, str]]:
        """What is kept of the labels of each server that was seen since the last call, as the rules left them."""
        found, self._seen = self._seen, {}
        return found

    def host(self, labels: Mapping[str, str]) -> Host | None:
        """The host that the labels name; None when a rule drops it or no name comes out.

        The profile is the label `profile`, else what the contract's host-name prefixes say.
        """
        key = frozenset(labels.items())
        if key not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = self._apply(labels)
        host, kept = self._known[key]
        if host is not None and self._keep:
            self._seen.setdefault(host.server, {}).update(kept)
        return host

    def _apply(self, labels: Mapping[str, str]) -> tuple[Host | None, dict[str, str]]:
        found = dict(labels)
        for rule, pattern in self._rules:
            text = rule.separator.join(found.get(name, "") for name in rule.source_labels)
            match = pattern.fullmatch(text)
            if rule.action in ("keep", "drop"):
                if (match is None) == (rule.action == "keep"):
                    return None, {}
            elif rule.action == "lowercase":
                found[rule.target_label] = text.lower()
            elif match is not None:
                found[rule.target_label] = match.expand(_REFERENCE.sub(_python_reference, rule.replacement))
        server = found.get(SERVER, "")
        host = Host(server, found.get(PROFILE) or profile_from_host(server)) if server else None
        kept = {name: found[name] for name in self._keep if found.get(name)}
        for name in [name for name, value in kept.items() if len(value) > LONGEST_LABEL]:
            logger.warning("the label %s of %s is longer than %d characters: left out", name, server, LONGEST_LABEL)
            del kept[name]
        return host, kept


def _python_reference(found: re.Match[str]) -> str:
    return rf"\g<{found[1] or found[2]}>"


def _compiled(rule: RelabelRule) -> re.Pattern[str]:
    if rule.action in ("replace", "lowercase") and not rule.target_label:
        raise UsageError(f"a relabel rule with the action {rule.action!r} needs a target_label")
    try:
        pattern = re.compile(rule.regex)
        if rule.action == "replace":
            pattern.sub(_REFERENCE.sub(_python_reference, rule.replacement), "")
    except (re.error, IndexError) as error:
        raise UsageError(f"the relabel rule {rule.regex!r} -> {rule.replacement!r} cannot be used: {error}") from error
    return pattern
