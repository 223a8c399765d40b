"""The origin of a forecast of a dataset."""

from __future__ import annotations

from datetime import datetime

from fleetcast.dataset.manifest import Manifest
from fleetcast.errors import UsageError


def chosen_origin(manifest: Manifest, origin: datetime | None) -> datetime:
    """The origin asked for, by default the data's last time stamp. Raises `UsageError` for one outside the data."""
    if origin is None:
        return manifest.end
    if not manifest.start <= origin <= manifest.end:
        raise UsageError(
            f"origin {origin.isoformat()} lies outside the data, {manifest.start.isoformat()} to "
            f"{manifest.end.isoformat()}"
        )
    return origin
