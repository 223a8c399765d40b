"""What alerting knows of the servers: their labels, and which depend on which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fleetcast.errors import UsageError
from fleetcast.located import read_yaml

DEPENDS_ON = "depends_on"
"""A label with this name holds the names of servers upstream, between commas."""
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BUILT_IN = frozenset({"level", "profile", "server", "metric"})


class ServerRule(BaseModel):
    """What holds for the servers whose whole name the expression matches; later rules go before earlier ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str
    labels: dict[str, str] = Field(default_factory=dict)
    depends_on: list[str] = Field(default_factory=list)

    @field_validator("match")
    @classmethod
    def _expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    @field_validator("labels")
    @classmethod
    def _free_names(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = [name for name in value if not LABEL.fullmatch(name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a label name: letters, digits and _, not a digit first")
        taken = sorted(BUILT_IN & value.keys())
        if taken:
            raise ValueError(f"{', '.join(taken)} is no label but an attribute of every alert: take another name")
        return value


class FleetFile(BaseModel):
    """The YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    servers: list[ServerRule]


class FleetMap:
    """Labels and direct upstreams of servers.

    From their source (`learn`), from rules, which go before it, and from edges (upstreams by server) of the dataset.
    """

    def __init__(self, rules: Iterable[ServerRule] = (), edges: Mapping[str, Iterable[str]] | None = None) -> None:
        self._rules = [(re.compile(rule.match), rule) for rule in rules]
        self._edges = {server: frozenset(names) for server, names in (edges or {}).items()}
        self._hosts: dict[str, dict[str, str]] = {}
        self._known: dict[str, tuple[dict[str, str], frozenset[str]]] = {}

    @classmethod
    def load(cls, path: Path | None, edges: Mapping[str, Iterable[str]] | None = None) -> FleetMap:
        """From a YAML file, where there is one. Raises `UsageError` with line and column of a mistake."""
        return cls(() if path is None else read_yaml(path).read(FleetFile).servers, edges)

    def learn(self, labels: Mapping[str, Mapping[str, str]]) -> None:
        """The labels that servers have from their source; those that are attributes of every alert are left out."""
        found = {
            server: {name: value for name, value in of_server.items() if name not in BUILT_IN}
            for server, of_server in labels.items()
        }
        if found != self._hosts:
            self._hosts, self._known = found, {}

    def labels_of(self, server: str) -> dict[str, str]:
        """The labels of a server."""
        return self._of(server)[0]

    def upstreams_of(self, server: str) -> frozenset[str]:
        """The servers that a server directly depends on."""
        return self._of(server)[1]

    def _of(self, server: str) -> tuple[dict[str, str], frozenset[str]]:
        found = self._known.get(server)
        if found is None:
            found = self._known[server] = self._work_out(server)
        return found

    def _work_out(self, server: str) -> tuple[dict[str, str], frozenset[str]]:
        labels = dict(self._hosts.get(server, {}))
        upstreams = set(self._edges.get(server, ()))
        for pattern, rule in self._rules:
            if pattern.fullmatch(server):
                labels |= rule.labels
                upstreams |= set(rule.depends_on)
        upstreams |= {name.strip() for name in labels.get(DEPENDS_ON, "").split(",") if name.strip()}
        return labels, frozenset(upstreams - {server})


def attributes_of(level: str, profile: str, server: str, metric: str, labels: Mapping[str, str]) -> dict[str, str]:
    """What routes and silences look at."""
    return {**labels, "level": level, "profile": profile, "server": server, "metric": metric}


def parse_attributes(words: Iterable[str]) -> dict[str, str]:
    """`name=value` words as attributes. Raises `UsageError`."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"{word!r} is not name=value; write for example level=P1 profile=database team=payments")
        found[name] = value
    return found
