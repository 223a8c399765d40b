"""The file of a routing as typed models."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetcast.alerting.matchers import Condition
from fleetcast.alerting.receivers import Receiver
from fleetcast.alerting.times import TimeInterval


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EscalationStep(_Strict):
    """Tell `to` when nobody has acknowledged `after_s` seconds after the alert was sent."""

    after_s: int = Field(gt=0)
    to: str


class Route(_Strict):
    """A node of the tree. What is None is the parent's."""

    name: str = Field(min_length=1)
    matchers: tuple[Condition, ...] = ()
    goes_on: bool = Field(False, alias="continue")
    receivers: tuple[str, ...] | None = Field(None, min_length=1)
    respond_within: str | None = None
    escalation: tuple[EscalationStep, ...] | None = None
    shadow: bool | None = Field(None, description="record what would be sent, send nothing")
    mute_times: tuple[str, ...] = ()
    active_times: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        times = [step.after_s for step in self.escalation or ()]
        if times != sorted(set(times)):
            raise ValueError(f"escalation times must ascend, found {times}")
        return self


class Window(_Strict):
    """Recurring maintenance: alerts that fit are not sent in these times."""

    name: str = Field(min_length=1)
    matchers: tuple[Condition, ...] = Field(min_length=1)
    times: tuple[TimeInterval, ...] = Field(min_length=1)


class RoutingFile(_Strict):
    """The YAML file."""

    receivers: dict[str, Receiver]
    route: Route
    times: dict[str, tuple[TimeInterval, ...]] = Field(default_factory=dict)
    maintenance: tuple[Window, ...] = ()
