"""Fitting the incident calibration of a model on what it forecast before its cutoff."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import EvaluationError, LeakageError
from fleetcast.evaluation.protocol import Forecaster
from fleetcast.forecast.forecaster import Forecaster as BundleForecaster
from fleetcast.model.manifest import update_manifest
from fleetcast.risk.calibration import Calibration, fit
from fleetcast.risk.incidents import critical_limits, in_incident, incident_steps, open_now, outcomes
from fleetcast.risk.probability import HORIZONS, incident_probabilities
from fleetcast.windows.arrays import FleetArrays


def calibrate_bundle(bundle: str | os.PathLike[str], fleet: FleetArrays, origins: Sequence[datetime]) -> Calibration:
    """Fit the calibration of a bundle (see `fit_calibration`) and write it into the bundle's manifest."""
    calibration = fit_calibration(BundleForecaster.load(bundle), fleet, origins)
    update_manifest(bundle, calibration=calibration.model_dump())
    return calibration


def fit_calibration(forecaster: Forecaster, fleet: FleetArrays, origins: Sequence[datetime]) -> Calibration:
    """Forecast at the origins, see where an incident began within each horizon, and fit a line to each.

    Nothing after the model's cutoff is read: every origin must leave the longest horizon before it (`LeakageError`).
    Left out are server windows with an incident open at the origin or within the hour before it, without a forecast,
    and without any sample in the horizon. Horizons are the full 30 min, 2 h and 8 h even where the forecast is
    shorter: the fit takes that up.
    """
    known = _until_cutoff(fleet, forecaster.manifest.cutoff)
    positions = [_checked(known, origin) for origin in origins]
    if not positions:
        raise EvaluationError("no origin to calibrate on: give at least one before the model's cutoff")
    targets = tuple(forecaster.manifest.targets)
    limits = critical_limits(known.profiles, targets)
    usable = np.isfinite(limits)
    incidents = incident_steps(known, targets)
    seen = np.asarray((~np.isnan(known.select(targets))).any(axis=2))
    steps = tuple(HORIZONS.values())
    raw, hit = [], []
    for position in positions:
        past = known.until(position)
        forecast = forecaster.forecast(past, known.time_at(position))
        by_metric = incident_probabilities(forecast.quantiles, forecast.levels, limits)
        largest = np.fmax.reduce(np.where(usable[:, :, None], by_metric, np.nan), axis=1)
        busy = in_incident(incidents, len(known.servers), position) | open_now(past, targets).any(axis=1)
        unseen = np.stack([~seen[:, position + 1 : position + 1 + h].any(axis=1) for h in steps], axis=1)
        raw.append(np.where(busy[:, None] | unseen, np.nan, largest))
        hit.append(outcomes(incidents, len(known.servers), position, steps))
    probabilities, events = np.concatenate(raw), np.concatenate(hit)
    return fit({name: (probabilities[:, index], events[:, index]) for index, name in enumerate(HORIZONS)})


def _until_cutoff(fleet: FleetArrays, cutoff: datetime) -> FleetArrays:
    last = (int(cutoff.timestamp()) - fleet.start) // STEP_SECONDS
    if last < 0:
        raise LeakageError(f"the data begins at {fleet.time_at(0)}, after the model's cutoff {cutoff}")
    return fleet.until(last)


def _checked(known: FleetArrays, origin: datetime) -> int:
    """Position of an origin whose longest horizon ends with the known data or before."""
    position, longest = known.index_of(origin), max(HORIZONS.values())
    latest = known.steps - 1 - longest
    if not 0 <= position <= latest:
        raise LeakageError(
            f"cannot calibrate at {origin}: an origin must lie between {known.time_at(0)} and {known.time_at(latest)}, "
            f"{longest} steps before the end of what the model may know ({known.time_at(known.steps - 1)})"
        )
    return position
