"""The bundles of a models folder, and the one that is current."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from fleetcast.errors import BundleError
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import BundleManifest, load_manifest

CURRENT, BUNDLE = "current", "bundle"


def list_bundles(models: str | os.PathLike[str]) -> list[tuple[Path, BundleManifest]]:
    """Paths and manifests of all finished runs' bundles, oldest first."""
    folder = Path(models)
    if not folder.is_dir():
        return []
    found = [path for path in folder.glob(f"*/{BUNDLE}") if not path.parent.is_symlink()]
    return sorted(((path, load_manifest(path)) for path in found), key=lambda pair: pair[1].created)


def current_bundle(models: str | os.PathLike[str]) -> Path | None:
    """Path of the bundle that `current` points to; None when there is none."""
    pointer = Path(models) / CURRENT
    return pointer.resolve() if pointer.exists() else None


def promote(models: str | os.PathLike[str], run: str) -> Path:
    """Make the bundle of `run` the current one, atomically, after checking that it loads.

    Raises `BundleError` when there is no such bundle or it is damaged; the old one then stays current.
    """
    folder = Path(models)
    bundle = folder / run / BUNDLE
    if run in {"", CURRENT, ".", ".."} or Path(run).name != run or not bundle.is_dir():
        known = ", ".join(path.parent.name for path, _ in list_bundles(folder)) or "none"
        raise BundleError(f"{folder} has no finished run {run!r}; there are: {known}")
    Bundle.load(bundle)
    partial = folder / f".{CURRENT}.{uuid.uuid4().hex}"
    partial.symlink_to(Path(run) / BUNDLE)
    partial.replace(folder / CURRENT)
    return bundle
