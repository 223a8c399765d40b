"""Playbooks: what may be done for a server of a profile, as typed YAML.

Seven ship with the package, one a profile; a folder of the settings replaces those of the profiles that it names.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fleetcast.alerting.views import AlertLevel
from fleetcast.contract.vocabulary import PROFILES
from fleetcast.errors import UsageError
from fleetcast.located import Located
from fleetcast.remediation.calls import PLAYBOOK, Call, SimulatorCall, Template
from fleetcast.remediation.checks import PostCheck, PreCheck

FALLBACK_PROFILE = "generic"


def _known_profile(name: str) -> str:
    if name not in PROFILES:
        raise ValueError(f"unknown profile; known are {', '.join(PROFILES)}")
    return name


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
    """One step; `detail` is an order ("drain ..."), `done` what it leads to ("drained ...").

    `run` is what is done on real machines, `undo` what takes it back (none: it cannot or need not be), `simulated`
    what it does to a simulated fleet (none: nothing).
    """

    name: str = Field(min_length=1)
    integration: str = Field(min_length=1)
    action: str = Field(pattern=r"^[a-z_]+$")
    detail: Template
    done: Template
    seconds: int = Field(gt=0)
    run: Call
    undo: Call | None = None
    simulated: SimulatorCall | None = None
    destructive: bool = False
    once: bool = Field(False, description="once a plan, not once for each of its servers")
    only_at: list[AlertLevel] | None = Field(None, description="levels at which the step is taken; None is all")


class Checks(_Strict):
    """Pre-checks hold before the first step, or nothing is done; when a post-check fails, the plan is rolled back."""

    pre: list[PreCheck] = Field(min_length=1)
    post: list[PostCheck] = Field(min_length=1)


class Playbook(_Strict):
    """What may be done for a server of a profile."""

    profile: Annotated[str, AfterValidator(_known_profile)]
    title: str
    trigger: Trigger
    integration: str
    approval: ApprovalRule
    checks: Checks
    steps: list[Step] = Field(min_length=1)
    expected_effect: Template
    rollback: Template

    @model_validator(mode="after")
    def _something_is_done_at_every_level(self) -> Self:
        idle = [level for level in self.trigger.levels if not self.steps_at(level)]
        if idle:
            raise ValueError(f"no step is taken at the levels {idle} of the trigger")
        names = [step.name for step in self.steps]
        if len(set(names)) < len(names):
            raise ValueError("two steps have the same name")
        return self

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


def load_playbooks(folder: Path | None = None) -> dict[str, Playbook]:
    """The playbook of every profile: those of the package, those in `*.yaml` of `folder` in place of them.

    Raises `UsageError` naming file and line of what is wrong, or two files that are for one profile.
    """
    playbooks = {playbook.profile: playbook for playbook in _of_the_package()}
    origins: dict[str, Path] = {}
    for path in _files(folder) if folder is not None else []:
        playbook = _read(path)
        if playbook.profile in origins:
            raise UsageError(f"{path} and {origins[playbook.profile]} are both for the profile {playbook.profile}")
        origins[playbook.profile] = path
        playbooks[playbook.profile] = playbook
    return playbooks


def parse_playbook(content: str, origin: str) -> Playbook:
    """A playbook from YAML text; `origin` names it in errors. Raises `UsageError` with the line of every fault."""
    return Located(content, origin).read(Playbook, PLAYBOOK)


@cache
def _of_the_package() -> tuple[Playbook, ...]:
    folder = resources.files("fleetcast.remediation").joinpath("playbooks")
    names = [f"{profile}.yaml" for profile in PROFILES]
    return tuple(parse_playbook(folder.joinpath(name).read_text("utf-8"), name) for name in names)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f"there is no folder of playbooks at {folder}")
    return sorted(folder.glob("*.yaml"))


def _read(path: Path) -> Playbook:
    try:
        return parse_playbook(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the playbook {path}: {error}") from error
