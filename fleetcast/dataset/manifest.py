"""The manifest of a dataset: what it holds, and a digest of each part."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from fleetcast.contract.compatibility import Side
from fleetcast.contract.vocabulary import STEP_SECONDS, VERSION

MANIFEST = "manifest.json"


class Part(BaseModel):
    """One Parquet file of whole servers, sorted by server and time."""

    name: str
    sha256: str
    rows: int
    servers: list[str]
    start: datetime
    end: datetime


class Manifest(BaseModel):
    """`start` and `end` are the first and last time stamps (UTC); `source` says where the samples came from."""

    contract_version: str = VERSION
    step_seconds: int = STEP_SECONDS
    timezone: str = Field("UTC", description="IANA zone of the fleet's calendar")
    metrics: list[str]
    rows: int
    start: datetime
    end: datetime
    source: dict[str, Any] = Field(default_factory=dict)
    quarantined_rows: int = 0
    soft_range_counts: dict[str, int] = Field(default_factory=dict)
    parts: list[Part]

    @property
    def servers(self) -> list[str]:
        """Names of all servers, in the order of the parts."""
        return [server for part in self.parts for server in part.servers]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the digests of the parts: changes when any value changes."""
        return hashlib.sha256("".join(part.sha256 for part in self.parts).encode()).hexdigest()

    def side(self, name: str) -> Side:
        """This dataset's side of a compatibility check."""
        return Side(name, self.contract_version, self.step_seconds, tuple(self.metrics))
