"""One forecaster for the batch job and for the service."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.errors import ContractError, IncompatibleError
from fleetcast.forecast.table import FALLBACK, MODEL, NONE, ForecastArrays
from fleetcast.model.base import ResidualBase
from fleetcast.model.bundle import Bundle
from fleetcast.model.floor import residual_floor
from fleetcast.model.manifest import BundleManifest
from fleetcast.model.members import joined, median, networks_of, parted
from fleetcast.model.native.compiler import CompileError
from fleetcast.model.native.predictor import NativePredictor
from fleetcast.model.network import ForecastNetwork
from fleetcast.model.prior import OWN_STEPS, FleetSpread, YoungBase, blended, level_of
from fleetcast.settings import ForecastSettings, Settings
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.batches import WindowBatcher
from fleetcast.windows.spec import OBSERVED_SHARE, STALE_STEPS, WindowSpec
from fleetcast.windows.tensors import Batch

BATCH = 256  # servers whose windows are made at a time
EAGER_BATCH = 32  # servers at a time without the compiled kernel: what stays in the processor's caches
FALLBACK_STEPS = STEPS_PER_DAY  # a server silent for longer than this gets no forecast
YOUNG = "; its bands are partly its profile's"
NO_SPREAD = "; its bands are too narrow: the model's bundle does not know how its profile spreads"
logger = logging.getLogger(__name__)


class Forecaster:
    """A loaded bundle.

    The same samples give the same forecast, to float32 rounding, whatever other servers are forecast with them.
    """

    def __init__(self, bundle: Bundle, settings: ForecastSettings | None = None) -> None:
        """`settings` says whether to predict with the compiled kernel; by default so."""
        self.manifest: BundleManifest = bundle.manifest
        self.risk_text = bundle.risk  # of the fitted risk model, for `fleetcast.risk`; None where there is none
        self.spec = WindowSpec.model_validate(bundle.manifest.window)
        self.spread = _spread(bundle.manifest.spread, self.spec)
        self.networks = networks_of(bundle.manifest.network, bundle.manifest.members)
        shapes = joined([network.state_dict() for network in self.networks])
        _require_shapes(shapes, bundle.weights, bundle.manifest.run)
        for network, weights in zip(self.networks, parted(bundle.weights, len(self.networks)), strict=True):
            network.load_state_dict(weights)
            network.eval()
            network.transformer.freeze()
        self.kernels = _kernels(self.networks, settings or ForecastSettings())

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], threads: int = 1, settings: ForecastSettings | None = None
    ) -> Forecaster:
        """Load a bundle and set torch's threads. Raises what `Bundle.load` raises."""
        torch.set_num_threads(threads)
        return cls(Bundle.load(path), settings or Settings().forecast)

    @property
    def history_steps(self) -> int:
        """Steps up to the origin that a forecast can make use of."""
        return self.spec.history_steps

    def history(self, fleet: FleetArrays, origin: datetime) -> FleetArrays:
        """All that a forecast from `origin` reads: the last `history_steps` steps, on an axis that ends there.

        Raises `IncompatibleError` and `ContractError` as `forecast` does.
        """
        side = this_contract(fleet.metrics, "the samples")
        require_fit(self.manifest.side(f"model {self.manifest.run}"), side)
        return _window(fleet, origin, self.history_steps)

    def inputs(self, history: FleetArrays) -> Batch:
        """The network's inputs for each server of a `history`."""
        rows, ends = np.arange(len(history.servers)), np.full(len(history.servers), history.steps - 1)
        base: ResidualBase | YoungBase | None = None
        if self.manifest.network.head == "floor":
            targets = history.select(self.spec.targets)
            begins = np.isfinite(history.values).any(axis=2).argmax(axis=1)  # a young server has no residuals before
            floor = (self.spec.horizon, self.spec.levels, self.spec.floor_leads)
            base = ResidualBase(targets, history.start, *floor, begins=begins)
            if self.spread is not None:
                base = YoungBase(base, self.spread.of(history.profiles, self.spec.targets, self.spec.horizon))
        return WindowBatcher(history, self.spec, base).inputs(rows, ends)

    def forecast(self, fleet: FleetArrays, origin: datetime) -> ForecastArrays:
        """Forecast every server from `origin`; reads only steps up to it and planned maintenance.

        A target without a sample in the last day has NaN quantiles, also where the model forecasts the server's others.

        Raises `IncompatibleError` when the fleet lacks a target, `ContractError` for an origin off the grid.
        """
        known = self.history(fleet, origin)
        seen = np.isfinite(known.select(self.spec.targets))
        recent = np.logical_or.reduce(seen[:, -FALLBACK_STEPS:], axis=1)
        reasons = [self._why_not_model(row) for row in seen]
        ages = _ages(known)
        silent = [not row.any() for row in recent]
        sources = [
            NONE if mute else FALLBACK if reason else MODEL for reason, mute in zip(reasons, silent, strict=True)
        ]
        shape = (len(fleet.servers), len(self.spec.targets), self.spec.horizon, len(self.spec.levels))
        quantiles = np.full(shape, np.nan, np.float32)
        by_model = np.array([row for row, source in enumerate(sources) if source == MODEL], dtype=np.int64)
        by_floor = np.array([row for row, source in enumerate(sources) if source == FALLBACK], dtype=np.int64)
        for first in range(0, len(by_model), BATCH):
            rows = by_model[first : first + BATCH]
            quantiles[rows] = self.model_quantiles(known.of_servers(rows))
        if len(by_floor):
            quantiles[by_floor] = self._floor_quantiles(known.of_servers(by_floor))
        quantiles[~recent] = np.nan
        for row in by_floor:
            if ages[row] < OWN_STEPS:
                reasons[row] += YOUNG if self.spread is not None else NO_SPREAD
        return ForecastArrays(
            fleet.servers, fleet.profiles, self.spec.targets, self.spec.levels, origin, quantiles,
            tuple(sources), tuple(reasons),
        )  # fmt: skip

    def _why_not_model(self, seen: npt.NDArray[np.bool_]) -> str:
        """Reason why one server, seen or not [time, target], cannot be forecast by the model; empty when it can.

        A target without a sample in the last day gets no forecast and does not count; all others must be fresh and
        observed over half of the encoder, as in training.
        """
        if not seen[-FALLBACK_STEPS:].any():
            return f"no sample in the last {FALLBACK_STEPS // STEPS_PER_HOUR} h"
        for column, name in enumerate(self.spec.targets):
            series = seen[:, column]
            if not series[-FALLBACK_STEPS:].any():
                continue
            silence = len(series) - 1 - np.flatnonzero(series)[-1]
            if silence > STALE_STEPS:
                return f"{name}: no sample for {silence * 5} min"
            share = series[-self.spec.context :].mean()
            if share < OBSERVED_SHARE:
                hours = self.spec.context / STEPS_PER_HOUR
                return f"{name}: {share:.0%} of the last {hours:g} h observed, {OBSERVED_SHARE:.0%} needed"
        return ""

    def model_quantiles(self, history: FleetArrays) -> npt.NDArray[np.float32]:
        """What the network says of each server of a `history`, also where `forecast` would not ask it.

        [server, target, step, level] in contract units.
        """
        batch, shared = self.inputs(history), self.spec.shared_reals
        with torch.inference_mode():
            if self.kernels:
                pairs = zip(self.networks, self.kernels, strict=True)
                found = median([network.quantiles(kernel(batch, shared), batch) for network, kernel in pairs])
            else:
                found = median([_eager(network, batch, shared) for network in self.networks])
        return np.ascontiguousarray(found.numpy().transpose(0, 2, 1, 3))

    def _floor_quantiles(self, fleet: FleetArrays) -> npt.NDArray[np.float32]:
        """Untrained quantiles [server, target, step, level]; a young server has its profile's spread."""
        values, horizon = fleet.select(self.spec.targets), self.spec.horizon
        found = np.stack(
            [residual_floor(values[:, :, column], horizon, self.spec.levels) for column in range(values.shape[2])],
            axis=2,
        )
        if self.spread is not None:
            spread = self.spread.of(fleet.profiles, self.spec.targets, horizon)
            for row, age in enumerate(_ages(fleet)):
                level = level_of(values[row].T)
                found[row] = blended(found[row], level, spread[row], int(age) - horizon)
        return np.ascontiguousarray(found.transpose(0, 2, 1, 3))


def _spread(table: dict[str, Any] | None, spec: WindowSpec) -> FleetSpread | None:
    """The fleet's spread, where a manifest has one at the model's levels."""
    spread = None if table is None else FleetSpread.model_validate(table)
    return spread if spread is not None and spread.levels == tuple(spec.levels) else None


def _ages(fleet: FleetArrays) -> npt.NDArray[np.int64]:
    """Steps since each server's first sample, at the end of the time axis."""
    return np.asarray(fleet.steps - np.isfinite(fleet.values).any(axis=2).argmax(axis=1), np.int64)


def _eager(network: ForecastNetwork, batch: Batch, shared: int) -> torch.Tensor:
    parts = zip(*(torch.split(tensor, EAGER_BATCH) for tensor in batch.values()), strict=True)
    return torch.cat([network(dict(zip(batch, part, strict=True)), shared) for part in parts])


def _kernels(networks: Sequence[ForecastNetwork], settings: ForecastSettings) -> list[NativePredictor]:
    """The networks' compiled forms, or none, with a log line that says why."""
    if not settings.compiled:
        return []
    config = networks[0].config
    steps = config.encoder_tokens + config.decoder_tokens
    try:
        return [NativePredictor(network.transformer, steps, settings.kernels) for network in networks]
    except CompileError as error:
        logger.warning("forecasting without the compiled kernel, several times slower: %s", error)
        return []


def _require_shapes(network: dict[str, torch.Tensor], weights: dict[str, torch.Tensor], run: str) -> None:
    """Raise `IncompatibleError` naming each tensor that the manifest's network and the weights do not share."""
    shapes = [{name: tuple(tensor.shape) for name, tensor in side.items()} for side in (network, weights)]
    names = sorted(name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name))
    if names:
        differences = [(name, shapes[0].get(name), shapes[1].get(name)) for name in names]
        raise IncompatibleError(f"the network of the manifest of {run}", "its weights", differences)


def _window(fleet: FleetArrays, origin: datetime, steps: int) -> FleetArrays:
    """The `steps` steps up to the origin, on an axis that ends there; missing where the fleet has none."""
    if origin.tzinfo is None:
        raise ContractError(f"the origin {origin.isoformat()} has no time zone")
    end = fleet.index_of(origin)
    return fleet.slice(end - steps + 1, end + 1)
