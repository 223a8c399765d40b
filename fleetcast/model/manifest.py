"""What a bundle says of itself; read without torch."""

from __future__ import annotations

import json
import os
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from fleetcast.contract.compatibility import Side
from fleetcast.contract.vocabulary import PROFILES, STATES, STEP_SECONDS, VERSION
from fleetcast.errors import BundleError
from fleetcast.model.config import NetworkConfig

MANIFEST = "manifest.json"
FORMAT = 1


class BundleManifest(BaseModel):
    """All that a bundle says of itself. Times are UTC."""

    format: int = FORMAT
    run: str
    created: datetime
    preset: str
    targets: tuple[str, ...]
    features: tuple[str, ...]
    levels: tuple[float, ...]
    context: int
    horizon: int
    window: dict[str, Any] = Field(description="the windows' specification")
    network: NetworkConfig
    members: int = Field(1, ge=1, description="networks, of whose quantiles the forecast is the median")
    cutoff: datetime = Field(description="last time stamp that training saw")
    timezone: str
    contract_version: str = VERSION
    step_seconds: int = STEP_SECONDS
    profiles: tuple[str, ...] = PROFILES
    states: tuple[str, ...] = STATES
    parameters: int = Field(description="trainable parameters of one network")
    data_fingerprint: str
    weights_sha256: str = ""
    risk_sha256: str = Field("", description="digest of the fitted risk model; empty where the lines alone are used")
    calibration: dict[str, Any] | None = None
    spread: dict[str, Any] | None = Field(None, description="how far servers move from their level (`model.prior`)")
    evaluation: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    def side(self, name: str) -> Side:
        """This model's side of a compatibility check: it needs its targets; other features may be missing."""
        return Side(name, self.contract_version, self.step_seconds, self.targets, self.profiles, self.states)


def load_manifest(path: str | os.PathLike[str]) -> BundleManifest:
    """The manifest alone. Raises `BundleError` when it is missing or damaged."""
    file = Path(path) / MANIFEST
    try:
        return BundleManifest.model_validate(json.loads(file.read_text()))
    except FileNotFoundError:
        raise BundleError(f"{path} is no model bundle (no {MANIFEST}); make one with `fleetcast train`") from None
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise BundleError(f"{file} is damaged: {error}") from error


def risk_file(digest: str) -> str:
    """Name of the file of the fitted risk model with this digest."""
    return f"risk-{digest[:16]}.json"


def update_manifest(path: str | os.PathLike[str], **fields: Any) -> BundleManifest:
    """Replace fields of the manifest (calibration, evaluation) atomically."""
    manifest = load_manifest(path).model_copy(update=fields)
    file = Path(path) / MANIFEST
    partial = file.with_name(f".{MANIFEST}.{uuid.uuid4().hex}.partial")
    write_whole(partial, (manifest.model_dump_json(indent=1) + "\n").encode())
    partial.replace(file)
    return manifest


def write_whole(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
