"""A trained model on disk: safetensors and a manifest, never a pickle."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.errors import BundleError, IncompatibleError
from fleetcast.model.manifest import (
    FORMAT,
    MANIFEST,
    BundleManifest,
    load_manifest,
    risk_file,
    update_manifest,
    write_whole,
)

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A manifest, the network's tensors, and the text of the fitted risk model where there is one."""

    manifest: BundleManifest
    weights: dict[str, torch.Tensor]
    risk: str | None = None

    def save(self, path: str | os.PathLike[str]) -> Bundle:
        """Write the bundle atomically to a path that does not exist yet; returns it with the weights' digest.

        Raises `BundleError` when the path exists or cannot be written; then nothing is left behind.
        """
        target = Path(path)
        if target.exists():
            raise BundleError(f"{target} exists already: a bundle is never overwritten")
        content = save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.weights.items()})
        digests = {"weights_sha256": hashlib.sha256(content).hexdigest(), "risk_sha256": _digest(self.risk)}
        manifest = self.manifest.model_copy(update=digests)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
        try:
            partial.mkdir(parents=True)
            write_whole(partial / WEIGHTS, content)
            if self.risk is not None:
                write_whole(partial / risk_file(manifest.risk_sha256), self.risk.encode())
            write_whole(partial / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
            partial.rename(target)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise BundleError(f"cannot write the bundle {target}: {error}") from error
        return Bundle(manifest, self.weights, self.risk)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and check a bundle.

        Raises `BundleError` when it is missing or damaged, `IncompatibleError` (both sides named) when its contract,
        step or vocabularies are not those of this FleetCast.
        """
        manifest = load_manifest(path)
        require_fit(manifest.side(f"bundle {path}"), this_contract(manifest.targets))
        if manifest.format != FORMAT:
            raise IncompatibleError(f"bundle {path}", "this FleetCast", [("format", manifest.format, FORMAT)])
        weights = Path(path) / WEIGHTS
        try:
            content = weights.read_bytes()
            tensors = load(content)
        except (OSError, SafetensorError) as error:
            raise BundleError(f"{weights} cannot be read: {error}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != manifest.weights_sha256:
            raise BundleError(f"{weights} is damaged: SHA-256 {found}, the manifest says {manifest.weights_sha256}")
        return cls(manifest, tensors, _load_risk(Path(path), manifest))


def attach_risk(path: str | os.PathLike[str], text: str | None, **fields: Any) -> BundleManifest:
    """Put the text of a fitted risk model into a bundle, or take it out (None), and set fields of the manifest.

    A reader sees all of the old or all of the new.

    Raises `BundleError` when the bundle is missing or cannot be written.
    """
    before = load_manifest(path)
    digest = _digest(text)
    try:
        if text is not None:
            file = Path(path) / risk_file(digest)
            partial = file.with_name(f".{file.name}.{uuid.uuid4().hex}.partial")
            write_whole(partial, text.encode())
            partial.replace(file)
        manifest = update_manifest(path, risk_sha256=digest, **fields)
        if before.risk_sha256 not in ("", digest):
            (Path(path) / risk_file(before.risk_sha256)).unlink(missing_ok=True)
    except OSError as error:
        raise BundleError(f"cannot write the risk model into {path}: {error}") from error
    return manifest


def _digest(text: str | None) -> str:
    return "" if text is None else hashlib.sha256(text.encode()).hexdigest()


def _load_risk(path: Path, manifest: BundleManifest) -> str | None:
    """The text of the risk model that the manifest names. Raises `BundleError` when it is not that."""
    if not manifest.risk_sha256:
        return None
    file = path / risk_file(manifest.risk_sha256)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.risk_sha256:
        raise BundleError(f"{file} is damaged: SHA-256 {found}, the manifest says {manifest.risk_sha256}")
    return content.decode()
