"""How much history the service keeps at hand: what is set, and at least what the model reads."""

from __future__ import annotations

import math

from fleetcast.contract.vocabulary import STEPS_PER_HOUR
from fleetcast.errors import UsageError
from fleetcast.model.manifest import BundleManifest
from fleetcast.settings import ServiceSettings
from fleetcast.windows.spec import WindowSpec

AHEAD_STEPS = STEPS_PER_HOUR
"""Samples come in while a cycle waits and runs: so many may be newer than its origin."""


def kept_steps(service: ServiceSettings, manifest: BundleManifest) -> int:
    """Steps kept in memory: a forecast sees all the history that a backtest of the same bundle sees.

    Raises `UsageError` when the database would delete samples, or the intake refuse them, that have to be kept.
    """
    needed = WindowSpec.model_validate(manifest.window).history_steps + AHEAD_STEPS
    steps = max(math.ceil(service.history_hours * STEPS_PER_HOUR), needed)
    if service.retention_hours * STEPS_PER_HOUR < steps:
        raise UsageError(
            f"samples are stored for {service.retention_hours:g} h, the model {manifest.run} and history_hours need "
            f"{steps / STEPS_PER_HOUR:g} h: set FLEETCAST_SERVICE__RETENTION_HOURS to at least that"
        )
    return steps
