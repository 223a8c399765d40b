"""A trained model on disk: safetensors and a manifest, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from fleetcast.contract.compatibility import Side, require_fit, this_contract
from fleetcast.contract.vocabulary import PROFILES, STATES, STEP_SECONDS, VERSION
from fleetcast.errors import BundleError, IncompatibleError
from fleetcast.model.config import NetworkConfig

WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"
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
    cutoff: datetime = Field(description="last time stamp that training saw")
    timezone: str
    contract_version: str = VERSION
    step_seconds: int = STEP_SECONDS
    profiles: tuple[str, ...] = PROFILES
    states: tuple[str, ...] = STATES
    parameters: int
    data_fingerprint: str
    weights_sha256: str = ""
    calibration: dict[str, Any] | None = None
    evaluation: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)

    def side(self, name: str) -> Side:
        """This model's side of a compatibility check: it needs its targets; other features may be missing."""
        return Side(name, self.contract_version, self.step_seconds, self.targets, self.profiles, self.states)


@dataclass(frozen=True)
class Bundle:
    """A manifest and the network's tensors."""

    manifest: BundleManifest
    weights: dict[str, torch.Tensor]

    def save(self, path: str | os.PathLike[str]) -> Bundle:
        """Write the bundle atomically to a path that does not exist yet; returns it with the weights' digest.

        Raises `BundleError` when the path exists or cannot be written; then nothing is left behind.
        """
        target = Path(path)
        if target.exists():
            raise BundleError(f"{target} exists already: a bundle is never overwritten")
        content = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.weights.items()})
        manifest = self.manifest.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        try:
            partial.mkdir(parents=True)
            _write(partial / WEIGHTS, content)
            _write(partial / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
            partial.rename(target)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise BundleError(f"cannot write the bundle {target}: {error}") from error
        return Bundle(manifest, self.weights)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and check a bundle.

        Raises `BundleError` when it is missing or damaged, `IncompatibleError` (both sides named) when its contract,
        step or vocabularies are not those of this FleetCast.
        """
        manifest = load_manifest(path)
        require_fit(manifest.side(f"bundle {path}"), this_contract(manifest.targets))
        weights = Path(path) / WEIGHTS
        try:
            content = weights.read_bytes()
            tensors = load(content)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{weights} cannot be read: {error}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != manifest.weights_sha256:
            raise BundleError(f"{weights} is damaged: SHA-256 {found}, the manifest says {manifest.weights_sha256}")
        return cls(manifest, tensors)


def load_manifest(path: str | os.PathLike[str]) -> BundleManifest:
    """The manifest alone. Raises `BundleError` when it is missing or damaged."""
    file = Path(path) / MANIFEST
    try:
        return BundleManifest.model_validate(json.loads(file.read_text()))
    except FileNotFoundError:
        raise BundleError(f"{path} is no model bundle (no {MANIFEST}); make one with `fleetcast train`") from None
    except (OSError, ValidationError, json.JSONDecodeError) as error:
        raise BundleError(f"{file} is damaged: {error}") from error


def update_manifest(path: str | os.PathLike[str], **fields: Any) -> BundleManifest:
    """Replace fields of the manifest (calibration, evaluation) atomically."""
    manifest = load_manifest(path).model_copy(update=fields)
    file = Path(path) / MANIFEST
    partial = file.with_name(f".{MANIFEST}.{uuid.uuid4().hex}.partial")
    _write(partial, (manifest.model_dump_json(indent=1) + "\n").encode())
    partial.replace(file)
    return manifest


def require_same_network(left_name: str, left: NetworkConfig, right_name: str, right: NetworkConfig) -> None:
    """Raise `IncompatibleError` naming each field in which two networks differ."""
    a, b = left.model_dump(), right.model_dump()
    differences = [(name, a[name], b[name]) for name in a if a[name] != b[name]]
    if differences:
        raise IncompatibleError(left_name, right_name, differences)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
