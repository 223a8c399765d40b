"""The frozen evaluation fleet: what later work is measured on, and may not change.

`evaluation_fleet.json` holds the specifications, sizes, origins and digests. A simulator that gives other values is a
new version with an evaluation fleet of its own.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib.resources import files

from pydantic import BaseModel, Field

from fleetcast.simulate.spec import FleetSpec


class FrozenFleet(BaseModel):
    """A fleet with what it must turn out to be."""

    spec: FleetSpec
    rows: int = Field(description="samples")
    incidents: int = Field(description="rows of the incident table")
    values_sha256: str = Field(description="`digest.fleet_digest`")
    incidents_sha256: str = Field(description="SHA-256 of the incidents' names, one a line, in the table's order")


class Evaluation(BaseModel):
    """Unseen servers of an unseen seed, the origins to forecast from, and the corpus that a reference learns on."""

    simulator_version: int
    evaluation: FrozenFleet
    corpus: FleetSpec
    first_origin_hours: float = Field(description="hours after the start")
    origin_stride_hours: float
    origin_count: int
    horizon: int = Field(description="steps")

    @property
    def origins(self) -> list[datetime]:
        """The origins, UTC."""
        first = self.evaluation.spec.start + timedelta(hours=self.first_origin_hours)
        return [first + number * timedelta(hours=self.origin_stride_hours) for number in range(self.origin_count)]


def frozen_evaluation() -> Evaluation:
    """What `evaluation_fleet.json` says."""
    content = files("fleetcast.simulate").joinpath("evaluation_fleet.json").read_bytes()
    return Evaluation.model_validate_json(content)
