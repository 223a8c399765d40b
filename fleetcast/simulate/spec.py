"""What a simulated fleet is: all values follow from this specification alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from fleetcast.contract.vocabulary import PROFILES, STEP_SECONDS, STEPS_PER_HOUR
from fleetcast.errors import DatasetError, UsageError
from fleetcast.simulate.calendar import TIMEZONE
from fleetcast.simulate.kinds import KIND_NAMES, kinds_of
from fleetcast.simulate.scenarios import scenario

SIMULATOR_VERSION = 3  # changes whenever the same specification gives other values
SOURCE_KIND = "simulated"
MOST_INCIDENTS = 2.0
MOST_HOURS = 87_600
FIRST_YEAR, LAST_YEAR = 1990, 2150
DEFAULT_START = datetime(2026, 1, 8, 5, tzinfo=UTC)  # a Thursday, midnight in New York


class FleetSpec(BaseModel):
    """A simulated fleet. Raises `UsageError` with one clear line when it cannot be simulated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    servers: int = Field(25, description="number of servers, at least 1")
    hours: float = Field(168.0, description="length of the span; at least one step of 5 minutes")
    seed: int = Field(7, description="0 to 2^63 - 1; another seed is another fleet")
    start: datetime = Field(DEFAULT_START, description="first time stamp, with a time zone, on the 5-minute grid")
    profiles: tuple[str, ...] = Field(PROFILES, description="profiles that occur, in their shares of a fleet")
    incidents_per_day: float = Field(
        0.076, description="incidents a server and day that no upstream server caused; with cascades about 0.1"
    )
    fizzle_share: float = Field(0.2, description="share of precursors that come to nothing")
    sudden_share: float = Field(0.15, description="share of incidents that strike without a precursor")
    scenario: str = Field("healthy", description="trouble that is forced upon the fleet beside its own")
    scenario_after: float = Field(0.0, description="hours from the start to the scenario's first wave")
    without_kinds: tuple[str, ...] = Field(
        (), description="kinds of incident that never strike; a server's other kinds take their place"
    )
    noise: float = Field(1.0, description="scale of all noise and of batch work and shocks; 0 is none")
    dirt: float = Field(0.0, description="share of samples that are lost; as many come late, twice or out of order")

    @field_validator("start")
    @classmethod
    def _on_the_grid(cls, start: datetime) -> datetime:
        if start.tzinfo is None:
            raise UsageError(f"start {start.isoformat()} has no time zone; write for example 2026-01-08T05:00Z")
        if start.timestamp() % STEP_SECONDS:
            raise UsageError(f"start {start.isoformat()} is not on the {STEP_SECONDS} s grid")
        return start.astimezone(UTC)

    @field_validator("profiles")
    @classmethod
    def _known_profiles(cls, profiles: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in profiles if name not in PROFILES]
        if unknown or not profiles:
            found = ", ".join(map(repr, unknown)) or "no profile"
            raise UsageError(f"{found} given as profiles; choose from {', '.join(PROFILES)}")
        return tuple(name for name in PROFILES if name in profiles)

    @field_validator("without_kinds")
    @classmethod
    def _known_kinds(cls, without: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in without if name not in KIND_NAMES]
        if unknown:
            found = ", ".join(map(repr, unknown))
            raise UsageError(f"{found} given as kinds of incident; choose from {', '.join(KIND_NAMES)}")
        for profile in PROFILES:
            if all(kind.sudden for kind, _ in kinds_of(profile, without)):
                raise UsageError(f"without_kinds leaves {profile} no kind of incident that announces itself; leave one")
        return tuple(name for name in KIND_NAMES if name in without)

    @model_serializer(mode="wrap")
    def _told(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """`without_kinds` is told of only where it names some: manifests of fleets with all kinds do not have it."""
        told: dict[str, Any] = serialize(self)
        return told if self.without_kinds else {name: value for name, value in told.items() if name != "without_kinds"}

    @model_validator(mode="after")
    def _possible(self) -> FleetSpec:
        if self.servers < 1:
            raise UsageError(f"servers is {self.servers}; a fleet has at least 1 server")
        if not 1 <= self.hours * STEPS_PER_HOUR <= MOST_HOURS * STEPS_PER_HOUR:
            least = 1 / STEPS_PER_HOUR
            raise UsageError(
                f"hours is {self.hours:g}; give {least:.4f} (one step of 5 minutes) to {MOST_HOURS} (ten years)"
            )
        if not FIRST_YEAR <= self.start.year <= LAST_YEAR:
            raise UsageError(
                f"start is in {self.start.year}; the exchange's calendar is known for {FIRST_YEAR} to {LAST_YEAR}"
            )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed is {self.seed}; give a whole number from 0 to 2^63 - 1")
        for name, high in (("noise", 3.0), ("dirt", 0.5)):
            if not 0 <= getattr(self, name) <= high:
                raise UsageError(f"{name} is {getattr(self, name):g}; give 0 to {high:g}")
        scenario(self.scenario)
        if not 0 <= self.scenario_after < 1e6:
            raise UsageError(f"scenario_after is {self.scenario_after:g}; give hours from the start, at least 0")
        if not 0 <= self.incidents_per_day <= MOST_INCIDENTS:
            raise UsageError(
                f"incidents_per_day is {self.incidents_per_day:g}; give 0 to {MOST_INCIDENTS:g} a server and day: "
                "an incident, its recovery and the rest after it take hours"
            )
        for name in ("fizzle_share", "sudden_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name):g}; give a share of at least 0 and below 1")
        return self

    @property
    def steps(self) -> int:
        """Number of 5-minute steps."""
        return int(self.hours * STEPS_PER_HOUR + 1e-6)

    @property
    def start_seconds(self) -> int:
        """Unix seconds of the first step."""
        return int(self.start.timestamp())

    @property
    def first_step(self) -> int:
        """The first step, counted from the Unix epoch."""
        return self.start_seconds // STEP_SECONDS

    @property
    def timezone(self) -> str:
        """IANA zone of the fleet's calendar."""
        return TIMEZONE

    def source(self) -> dict[str, Any]:
        """How a manifest tells where the samples came from; `spec_of_source` reads it."""
        return {
            "kind": SOURCE_KIND,
            "simulator_version": SIMULATOR_VERSION,
            "spec": self.model_dump(mode="json"),
        }


def make_spec(start: datetime | None, end: datetime | None, hours: float | None, **fields: Any) -> FleetSpec:
    """A specification from a start and either an end or a length; a field that is None has its default.

    Raises `UsageError` when both or neither fit, or for what `FleetSpec` refuses.
    """
    begin = DEFAULT_START if start is None else start
    if end is not None:
        if hours is not None:
            raise UsageError("give either hours or an end, not both")
        if begin.tzinfo is None or end.tzinfo is None:
            raise UsageError("start and end need a time zone; write for example 2026-01-08T05:00Z")
        if end <= begin:
            raise UsageError(f"the end {end.isoformat()} is not after the start {begin.isoformat()}")
        hours = (end - begin).total_seconds() / 3600
    given = {"start": begin, "hours": hours, **fields}
    return FleetSpec(**{name: value for name, value in given.items() if value is not None})


def spec_of_source(source: Mapping[str, Any]) -> FleetSpec:
    """The specification that a manifest's `source` tells of.

    Raises:
        DatasetError: the samples were not simulated, or by a simulator that gives other values.
    """
    if source.get("kind") != SOURCE_KIND:
        raise DatasetError(
            f"not a simulated dataset (source {dict(source)!r}): only a simulated fleet can be continued"
        )
    if source.get("simulator_version") != SIMULATOR_VERSION:
        raise DatasetError(
            f"the dataset is of simulator version {source.get('simulator_version')}, this is {SIMULATOR_VERSION}: "
            "simulate it again"
        )
    try:
        return FleetSpec.model_validate(source.get("spec"))
    except (ValidationError, UsageError) as error:
        raise DatasetError(f"the dataset's simulation spec cannot be understood: {error}") from error
