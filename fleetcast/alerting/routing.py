"""Who is told of an alert, read from YAML; the default ships with the package."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleetcast.alerting.views import AlertLevel, EscalationRow, RoutingRow
from fleetcast.errors import UsageError

LEVELS: tuple[AlertLevel, ...] = ("P1", "P2", "P3", "P4")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Receiver(_Strict):
    """A person or team and the channel that reaches them."""

    channel: str = Field(min_length=1)
    to: str = Field(min_length=1)

    @property
    def label(self) -> str:
        """As shown: `channel: who`."""
        return f"{self.channel}: {self.to}"


class EscalationStep(_Strict):
    """Tell `to` when nobody has acknowledged `after_s` seconds after the alert was sent."""

    after_s: int = Field(gt=0)
    to: str


class LevelRoute(_Strict):
    """What happens at one level."""

    meaning: str
    receivers: list[str] = Field(min_length=1)
    respond_within: str
    escalation: list[EscalationStep]

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        times = [step.after_s for step in self.escalation]
        if times != sorted(set(times)):
            raise ValueError(f"escalation times must ascend, found {times}")
        return self


class Routing(_Strict):
    """The routing of all levels."""

    receivers: dict[str, Receiver]
    levels: dict[AlertLevel, LevelRoute]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [level for level in LEVELS if level not in self.levels]
        if missing:
            raise ValueError(f"no route for the levels {missing}")
        for level, route in self.levels.items():
            unknown = {*route.receivers, *(step.to for step in route.escalation)} - set(self.receivers)
            if unknown:
                raise ValueError(f"{level} names the unknown receivers {sorted(unknown)}")
        return self

    @classmethod
    def default(cls) -> Routing:
        """The routing that ships with FleetCast."""
        return cls.parse(resources.files("fleetcast.alerting").joinpath("routing.yaml").read_text("utf-8"), "default")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Routing:
        """Routing from a YAML file. Raises `UsageError` when it cannot be read or is wrong."""
        try:
            return cls.parse(Path(path).read_text("utf-8"), os.fspath(path))
        except OSError as error:
            raise UsageError(f"cannot read the routing {os.fspath(path)}: {error}") from error

    @classmethod
    def parse(cls, content: str, origin: str) -> Routing:
        """Routing from YAML text; `origin` names it in errors. Raises `UsageError`."""
        try:
            return cls.model_validate(yaml.safe_load(content))
        except (yaml.YAMLError, ValidationError) as error:
            raise UsageError(f"the routing {origin} is wrong: {error}") from error

    def receivers_of(self, level: AlertLevel) -> list[Receiver]:
        """Who is told at once."""
        return [self.receivers[name] for name in self.levels[level].receivers]

    def escalation_of(self, level: AlertLevel) -> list[tuple[int, Receiver]]:
        """Who is told next: (seconds after sending, receiver), ascending."""
        return [(step.after_s, self.receivers[step.to]) for step in self.levels[level].escalation]

    def matrix(self) -> list[RoutingRow]:
        """The routing as a table, one row a level."""
        return [self._row(level) for level in LEVELS]

    def _row(self, level: AlertLevel) -> RoutingRow:
        route = self.levels[level]
        return RoutingRow(
            level=level,
            meaning=route.meaning,
            route=[receiver.label for receiver in self.receivers_of(level)],
            respond_within=route.respond_within,
            escalation=[EscalationRow(after_s=after, to=to.label) for after, to in self.escalation_of(level)],
        )
