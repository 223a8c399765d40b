"""Playbooks: what may be done for a server of a profile, as typed YAML that ships with the package."""

from __future__ import annotations

from importlib import resources
from string import Formatter
from typing import Annotated, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fleetcast.alerting.views import AlertLevel
from fleetcast.contract.vocabulary import PROFILES
from fleetcast.errors import UsageError

PLACEHOLDERS = frozenset({"server", "profile", "metric"})
FALLBACK_PROFILE = "generic"


def _known_placeholders(template: str) -> str:
    fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    if fields - PLACEHOLDERS:
        raise ValueError(f"unknown placeholders {sorted(fields - PLACEHOLDERS)}; known are {sorted(PLACEHOLDERS)}")
    return template


Template = Annotated[str, Field(min_length=1), AfterValidator(_known_placeholders)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Trigger(_Strict):
    """Levels of an alert for which the playbook proposes a plan."""

    levels: list[AlertLevel] = Field(min_length=1)


class ApprovalRule(_Strict):
    """Who approves: the policy (always, or below a risk score) or a person of a role."""

    role: Literal["engineer", "director"]
    automatic: Literal["always", "below", "never"]
    below_score: float | None = Field(None, gt=0, le=100)

    @model_validator(mode="after")
    def _score_belongs_to_below(self) -> Self:
        if (self.automatic == "below") != (self.below_score is not None):
            raise ValueError("`below_score` belongs to `automatic: below`, and only there")
        return self

    def allows_automatic(self, score: float) -> bool:
        """Whether the policy approves at this risk score."""
        return self.automatic == "always" or (self.below_score is not None and score < self.below_score)


class Step(_Strict):
    """One step; `detail` is an order ("drain ..."), `done` what it leads to ("drained ...")."""

    name: str = Field(min_length=1)
    integration: str = Field(min_length=1)
    action: str = Field(pattern=r"^[a-z_]+$")
    detail: Template
    done: Template
    seconds: int = Field(gt=0)
    destructive: bool = False
    only_at: list[AlertLevel] | None = Field(None, description="levels at which the step is taken; None is all")


class Playbook(_Strict):
    """What may be done for a server of a profile."""

    profile: str
    title: str
    trigger: Trigger
    integration: str
    approval: ApprovalRule
    steps: list[Step] = Field(min_length=1)
    expected_effect: Template
    rollback: Template

    def steps_at(self, level: AlertLevel) -> list[Step]:
        """The steps taken at a level."""
        return [step for step in self.steps if step.only_at is None or level in step.only_at]

    def approver_at(self, level: AlertLevel) -> Literal["engineer", "director"]:
        """Who approves when the policy does not: destructive steps need the director."""
        return "director" if any(step.destructive for step in self.steps_at(level)) else self.approval.role

    def approval_words(self) -> str:
        """The approval rule for people."""
        if self.approval.automatic == "always":
            return "automatic"
        person: str = self.approval.role
        if any(step.destructive for step in self.steps):
            person += "; destructive steps director"
        if self.approval.below_score is None:
            return person
        return f"automatic below risk {self.approval.below_score:g}, else {person}"


def load_playbooks() -> dict[str, Playbook]:
    """The playbooks of the package by profile, one for each. Raises `UsageError` naming the file that is wrong."""
    folder = resources.files("fleetcast.remediation").joinpath("playbooks")
    return {
        profile: parse_playbook(folder.joinpath(f"{profile}.yaml").read_text("utf-8"), profile) for profile in PROFILES
    }


def parse_playbook(content: str, origin: str) -> Playbook:
    """A playbook from YAML text; `origin` names it in errors. Raises `UsageError`."""
    try:
        return Playbook.model_validate(yaml.safe_load(content))
    except (yaml.YAMLError, ValidationError) as error:
        raise UsageError(f"the playbook {origin} is wrong: {error}") from error
