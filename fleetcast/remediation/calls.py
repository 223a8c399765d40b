"""What a step asks of an executor: plain typed data with placeholders, never a command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, model_validator

PLACEHOLDERS = frozenset({"server", "profile", "metric"})
PLAYBOOK = "playbook"
"""Validation context of texts that are still templates."""
_FIELD = re.compile(r"\{(\w+)\}")


def _known_placeholders(template: str, info: ValidationInfo) -> str:
    """Checks what a playbook says; what a plan says has its names filled in, and a name may hold braces."""
    if info.context != PLAYBOOK:
        return template
    fields = list(Formatter().parse(template))
    names = {field for _, field, _, _ in fields if field is not None}
    if names - PLACEHOLDERS:
        raise ValueError(f"unknown placeholders {sorted(names - PLACEHOLDERS)}; known are {sorted(PLACEHOLDERS)}")
    if any(form or conversion for _, _, form, conversion in fields):
        raise ValueError("a placeholder is a plain name in braces, without a format")
    return template


Template = Annotated[str, Field(min_length=1), AfterValidator(_known_placeholders)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpCall(_Strict):
    """A request to a target of the settings, which also say which requests it takes."""

    executor: Literal["http"]
    target: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: Annotated[Template, Field(pattern=r"^/[^?#\s]*$")]
    body: dict[str, JsonValue] = Field(default_factory=dict)


class KubernetesCall(_Strict):
    """A node to cordon, uncordon or drain, or a deployment to scale by so many replicas."""

    executor: Literal["kubernetes"]
    operation: Literal["cordon", "uncordon", "drain", "scale"]
    name: Template
    by: int = Field(0, ge=-10, le=10, description="replicas more (or fewer) of a deployment that is scaled")

    @model_validator(mode="after")
    def _by_belongs_to_scale(self) -> Self:
        if (self.operation == "scale") != (self.by != 0):
            raise ValueError("`by` (not 0) belongs to `operation: scale`, and only there")
        return self


class AnsibleCall(_Strict):
    """A playbook of the project folder, limited to one host of the inventory."""

    executor: Literal["ansible"]
    playbook: str = Field(pattern=r"^[A-Za-z0-9_-]+\.ya?ml$")
    limit: Template
    variables: dict[str, Template] = Field(default_factory=dict)


class SimulatorCall(_Strict):
    """What the step does to a server of a simulated fleet."""

    executor: Literal["simulator"] = "simulator"
    action: Literal["restart", "reboot", "add_capacity", "clear_disk", "throttle", "drain"]
    value: float = Field(1.0, gt=0, le=100)
    server: Template = "{server}"


Call = Annotated[HttpCall | KubernetesCall | AnsibleCall | SimulatorCall, Field(discriminator="executor")]


def filled(call: Call, names: Mapping[str, str]) -> Call:
    """The call with its placeholders filled in; in a path each name becomes one percent-encoded segment."""
    texts = {name: fill(value, names) for name, value in call.model_dump().items()}
    if isinstance(call, HttpCall):
        texts["path"] = fill(call.path, {name: quote(value, safe="") for name, value in names.items()})
    return call.model_copy(update=texts)


def fill(value: Any, names: Mapping[str, str]) -> Any:
    """Texts with `{name}` replaced, once: a name that holds braces does not become a placeholder."""
    if isinstance(value, str):
        return _FIELD.sub(lambda found: names.get(found[1], found[0]), value)
    if isinstance(value, dict):
        return {key: fill(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, names) for item in value]
    return value


def in_words(call: Call) -> str:
    """The call for people."""
    if isinstance(call, HttpCall):
        return f"{call.method} {call.path} at {call.target}"
    if isinstance(call, KubernetesCall):
        return f"{call.operation} {call.name}" + (f" by {call.by:+d}" if call.by else "")
    if isinstance(call, AnsibleCall):
        return f"ansible playbook {call.playbook} on {call.limit}"
    return f"simulated {call.action} of {call.server}"
