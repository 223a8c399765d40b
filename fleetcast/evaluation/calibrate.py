"""Fitting the risk of a model on what it forecast before its cutoff.

Fitted are the lines, the risk model where incidents are enough, what comes from upstream, and the exponents of P(any).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.evaluation.protocol import Forecaster
from fleetcast.evaluation.risk_windows import RiskWindows, risk_windows
from fleetcast.forecast.forecaster import Forecaster as BundleForecaster
from fleetcast.model.bundle import attach_risk
from fleetcast.model.manifest import load_manifest, update_manifest
from fleetcast.model.prior import FleetSpread
from fleetcast.risk.calibration import Calibration, fit_line
from fleetcast.risk.fleet import GROUPS, fit_exponent, hazards_of_groups
from fleetcast.risk.learning import fit_risk_model
from fleetcast.risk.model import RiskModel
from fleetcast.risk.probability import HORIZONS
from fleetcast.risk.spread import fit_spread, spread
from fleetcast.windows.arrays import FleetArrays

Doubles = npt.NDArray[np.float64]


def calibrate_bundle(
    bundle: str | os.PathLike[str],
    fleet: FleetArrays,
    origins: Sequence[datetime],
    labels: pa.Table | None = None,
    remediated: pa.Table | None = None,
    quiet_share: float = 1.0,
    topology: pa.Table | None = None,
) -> Calibration:
    """Fit the risk of a bundle (see `fit_risk`) and write it into the bundle."""
    forecaster = BundleForecaster.load(bundle)
    calibration, model = fit_risk(forecaster, fleet, origins, labels, remediated, quiet_share, topology)
    store_risk(bundle, calibration, model)
    return calibration


def attach_spread(bundle: str | os.PathLike[str], past: FleetArrays) -> None:
    """Write into a bundle how far these servers, up to the model's cutoff, move from their level (`model.prior`)."""
    manifest = load_manifest(bundle)
    values = past.select(manifest.targets)
    found = FleetSpread.fit(values, past.profiles, manifest.targets, manifest.horizon, manifest.levels)
    update_manifest(bundle, spread=found.model_dump())


def store_risk(bundle: str | os.PathLike[str], calibration: Calibration, model: RiskModel | None) -> None:
    """Write a fitted risk into a bundle, in the place of the one that it has."""
    attach_risk(bundle, None if model is None else model.dumps(), calibration=calibration.model_dump())


def fit_risk(
    forecaster: Forecaster,
    fleet: FleetArrays,
    origins: Sequence[datetime],
    labels: pa.Table | None = None,
    remediated: pa.Table | None = None,
    quiet_share: float = 1.0,
    topology: pa.Table | None = None,
) -> tuple[Calibration, RiskModel | None]:
    """Fit lines, the risk model where incidents are enough (else None), what comes from upstream, and P(any).

    `labels` (schema `INCIDENTS`) are the fleet's known incidents, without any its metrics tell
    (`incidents.incidents_of`); `remediated` (schema `REMEDIATIONS`) censors; `quiet_share` of the windows without an
    incident ahead are taken. Raises `LeakageError` and `EvaluationError` as `risk_windows` does.
    """
    return fit_windows(risk_windows(forecaster, fleet, origins, labels, remediated, quiet_share, topology))


def fit_windows(windows: RiskWindows) -> tuple[Calibration, RiskModel | None]:
    """The same from windows, which may be of several fleets (`RiskWindows.concat`)."""
    model, held_out = fit_risk_model(windows.samples())
    calibration = lines_of(windows)
    said, spreads = calibration.apply(windows.raw), {}
    for place, name in enumerate(HORIZONS):
        if model is not None and name in model.horizons:
            own, arriving = held_out[:, place], windows.arriving(held_out[:, place])
            spreads[name] = fit_spread(own, arriving, windows.outcomes[:, place], windows.weights)
            said[:, place] = spread(own, arriving, spreads[name])
    return calibration.model_copy(
        update={"spread": spreads, "shared": exponents_of(windows, said), "incidents": dict(windows.events)}
    ), model


def lines_of(windows: RiskWindows) -> Calibration:
    """The line of each horizon, from exceedance to outcome."""
    lines = {}
    for place, name in enumerate(HORIZONS):
        known = ~np.isnan(windows.outcomes[:, place]) & (windows.weights > 0)
        raw, happened = windows.raw[known, place], windows.outcomes[known, place] > 0.5
        lines[name] = fit_line(raw, happened, windows.weights[known])
    return Calibration(horizons=lines)


def exponents_of(windows: RiskWindows, said: Doubles, seed: int = 0) -> dict[str, float]:
    """The exponent of P(any) of each horizon, from probabilities [window, horizon]."""
    generator, found = np.random.default_rng(seed), {}
    for place, name in enumerate(HORIZONS):
        groups = []
        for origin in np.unique(windows.origins):
            here = (windows.origins == origin) & (windows.weights > 0)
            one = (said[here, place], windows.outcomes[here, place], windows.weights[here])
            groups.append(hazards_of_groups(*one, GROUPS, generator))
        sums, hits = (np.concatenate([group[side] for group in groups]) for side in (0, 1))
        found[name] = fit_exponent(sums, hits.astype(bool))
    return found
