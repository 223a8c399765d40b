"""The models of a forecaster replica: the one in use, and the one before it for cycles that began with it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fleetcast.contract.metrics import in_contract_order
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import BundleError, ServiceError
from fleetcast.model.manifest import MANIFEST
from fleetcast.windows.arrays import FleetArrays
from serve_app.intake import moment_of

if TYPE_CHECKING:
    from fleetcast.forecast.forecaster import Forecaster

logger = logging.getLogger("ray.serve")

KEPT_MODELS = 2
Version = tuple[str, int]


class OtherModelError(ServiceError):
    """This replica does not have the model that was asked for."""


class ModelSlot:
    """Follows the path of a bundle, which may be a pointer that `fleetcast models promote` moves.

    A bundle that fails its check is refused: what was in use stays, and `refused` says why. `steps` of history are kept
    by the service; a model that reads more is refused too.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._models: tuple[Forecaster, ...] = ()
        self._seen: Version | None = None
        self.refused: str | None = None

    @property
    def current(self) -> Forecaster:
        """The model in use. Raises `ServiceError` before the first was loaded."""
        if not self._models:
            raise ServiceError("the forecaster has no bundle: its user_config must name one")
        return self._models[0]

    def of(self, digest: str | None) -> Forecaster:
        """The model with these weights (None: the one in use). Raises `OtherModelError` when it is not there."""
        if digest is None:
            return self.current
        for model in self._models:
            if model.manifest.weights_sha256 == digest:
                return model
        raise OtherModelError(f"this forecaster has not loaded the model {digest[:12]}")

    def has_moved(self, path: str) -> bool:
        """Whether the path leads to another bundle than at the last attempt to load it, or to a changed one."""
        return _version(path) != self._seen

    def load(self, path: str) -> None:
        """Load and check the bundle and put it in use.

        Raises what is wrong with it (`BundleError`, `IncompatibleError`) when there is none in use that could stay.
        """
        version = _version(path)
        try:
            model = _loaded(version[0], self._steps)
        except Exception as error:  # whatever is wrong with the new one must not end the one in use
            if not self._models:
                raise
            self.refused = f"{version[0]}: {error}"
            logger.error("the bundle is refused, %s stays: %s", self.current.manifest.run, self.refused)
        else:
            self._models, self.refused = (model, *self._models)[:KEPT_MODELS], None
            logger.info("loaded the bundle %s", version[0])
        self._seen = version


def _version(path: str) -> Version:
    """Where the path leads, and when its manifest was written: the manifest is replaced whole."""
    real = os.path.realpath(path)
    try:
        return real, (Path(real) / MANIFEST).stat().st_mtime_ns
    except OSError:
        return real, 0


def _loaded(path: str, steps: int) -> Forecaster:
    from fleetcast.forecast.forecaster import Forecaster  # noqa: PLC0415  # torch loads in these replicas only

    model = Forecaster.load(path)
    if model.history_steps > steps:
        raise BundleError(
            f"the model {model.manifest.run} reads {model.history_steps} steps of history, the service keeps {steps}: "
            "start it again with this model"
        )
    _try(model)
    return model


def _try(model: Forecaster) -> None:
    """Raise `BundleError` unless the model forecasts a made-up server with finite quantiles in their order."""
    metrics = in_contract_order(model.manifest.targets)
    steps = model.history_steps
    course = 0.3 + 0.1 * np.sin(np.arange(steps) / 20)
    values = np.repeat(course[None, :, None], len(metrics), axis=2).astype(np.float32)
    fleet = FleetArrays(
        ("trial",), ("generic",), metrics, 0, values, MAINTENANCE.empty_table(), model.manifest.timezone
    )
    quantiles = model.forecast(fleet, moment_of(int(fleet.timestamps[-1]))).quantiles
    if not np.isfinite(quantiles).all() or (np.diff(quantiles, axis=3) < 0).any():
        raise BundleError(f"the model {model.manifest.run} makes no forecast: quantiles are not finite or not in order")
