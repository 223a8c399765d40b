"""What a model forecast at past origins beside what came of it: the windows that its risk is fitted on.

Of servers with an incident ahead all windows are taken, of the others a share, with weights that undo it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.errors import EvaluationError, LeakageError
from fleetcast.evaluation.protocol import Forecaster
from fleetcast.risk.censoring import remediated_steps, remediation_censors, unseen_censors
from fleetcast.risk.features import HISTORY_STEPS, risk_features
from fleetcast.risk.incidents import in_incident, incidents_of, open_now, outcomes
from fleetcast.risk.learning import RiskSamples
from fleetcast.risk.limits import Limits, server_limits
from fleetcast.risk.probability import HORIZONS, incident_probabilities
from fleetcast.risk.spread import Arriving, Dependencies, arriving, struck_for
from fleetcast.windows.arrays import FleetArrays

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RiskWindows:
    """What was forecast and what came of it, window by window; axes [window], [window, horizon], [window, feature].

    `raw` is the exceedance (NaN where there is none), `outcomes` NaN where censored; `events` counts the distinct
    incidents by horizon; `origins` numbers each window's origin; `sources` and `strengths` [window, slot] are the
    servers that the window's depends on; `struck` says for how many steps its own server has been critical
    (`risk.spread.struck_for`). Windows of weight 0 are there for those that depend on them.
    """

    names: tuple[str, ...]
    rising: npt.NDArray[np.bool_]
    features: npt.NDArray[np.float32]
    raw: Doubles
    outcomes: Doubles
    servers: npt.NDArray[np.int64]
    origins: npt.NDArray[np.int64]
    weights: Doubles
    sources: npt.NDArray[np.int64]
    strengths: Doubles
    struck: Doubles
    events: dict[str, int]

    @staticmethod
    def concat(parts: Sequence[RiskWindows]) -> RiskWindows:
        """Windows of several fleets with the same metrics as one."""
        shifted, servers, origins, width = [], 0, 0, max(part.sources.shape[1] for part in parts)
        for part in parts:
            pad = ((0, 0), (0, width - part.sources.shape[1]))
            shifted.append(
                replace(
                    part,
                    servers=part.servers + servers,
                    origins=part.origins + origins,
                    sources=np.pad(np.where(part.sources < 0, -1, part.sources + servers), pad, constant_values=-1),
                    strengths=np.pad(part.strengths, pad),
                )
            )
            servers += int(part.servers.max(initial=0)) + 1
            origins += int(part.origins.max(initial=0)) + 1
        events = {name: sum(part.events.get(name, 0) for part in parts) for name in HORIZONS}
        return replace(_joined(shifted), events=events)

    def arriving(self, said: Doubles) -> Arriving:
        """What comes from each window's upstreams at the same origin, of probabilities [window]."""
        keys = self.origins * (int(self.servers.max(initial=0)) + 1) + self.servers
        order = np.argsort(keys)
        wanted = self.origins[:, None] * (int(self.servers.max(initial=0)) + 1) + self.sources
        places = order[np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)]
        found = (self.sources >= 0) & (keys[places] == wanted)
        upstream = [np.where(found, one[places], np.nan) for one in (said, self.struck)]
        return arriving(upstream[0], upstream[1], self.strengths)

    def samples(self) -> RiskSamples:
        """As a risk model learns from them."""
        return RiskSamples(
            self.names, self.rising, self.features, self.outcomes, self.servers, self.weights, self.events
        )


def risk_windows(
    forecaster: Forecaster,
    fleet: FleetArrays,
    origins: Sequence[datetime],
    labels: pa.Table | None = None,
    remediated: pa.Table | None = None,
    quiet_share: float = 1.0,
    topology: pa.Table | None = None,
    seed: int = 0,
    later_share: float = 1.0,
) -> RiskWindows:
    """Forecast at the origins, and see where an incident began within each horizon.

    Nothing after the model's cutoff is read: every origin must leave the longest horizon before it (`LeakageError`).
    Left out are server windows with an incident open at the origin or within the hour before it, and without a
    forecast; censored are those without any sample in the horizon or with a remediation. Horizons are the full 30 min,
    2 h and 8 h even where the forecast is shorter: the fit takes that up. Raises `EvaluationError` without an origin.
    """
    known = _until_cutoff(fleet, forecaster.manifest.cutoff)
    positions = [_checked(known, origin) for origin in origins]
    if not positions:
        raise EvaluationError("no origin to calibrate on: give at least one before the model's cutoff")
    targets = tuple(forecaster.manifest.targets)
    limits = server_limits(known.until(min(positions)), targets)
    incidents = incidents_of(known, targets, labels, limits)
    remedies = remediated_steps(known, remediated)
    seen = np.asarray((~np.isnan(known.select(targets))).any(axis=2))
    steps, generator = tuple(HORIZONS.values()), np.random.default_rng(seed)
    labelled = labels is not None and labels.num_rows > 0
    depend = Dependencies(known.servers, topology)
    parts: list[RiskWindows] = []
    for position in positions:
        hit = outcomes(incidents, len(known.servers), position, steps)
        hidden = unseen_censors(seen, position, steps)
        hidden |= remediation_censors(remedies, incidents, len(known.servers), position, steps)
        busy = in_incident(incidents, len(known.servers), position)
        share = np.where(hit[:, 1], 1.0, np.where(hit[:, 2], later_share, quiet_share))
        taken = ~busy & (generator.random(len(busy)) < share)
        needed = taken.copy()
        needed[depend.sources[taken][depend.sources[taken] >= 0]] = True
        rows = np.flatnonzero(needed)
        if taken.any():
            truth = np.where(hidden, np.nan, hit.astype(np.float64))[rows]
            weights = np.where(taken, 1.0 / share, 0.0)[rows]
            found = _windows_at(forecaster, known, position, rows, limits, truth, weights, labelled)
            at = found.servers
            parts.append(replace(found, sources=depend.sources[at], strengths=depend.strengths[at]))
    if not parts:
        raise EvaluationError("no server window to calibrate on: all servers are in an incident at every origin")
    return replace(_joined(parts), events=_events(incidents, positions))


def _windows_at(
    forecaster: Forecaster,
    known: FleetArrays,
    position: int,
    rows: npt.NDArray[np.int64],
    limits: Limits,
    truth: Doubles,
    weights: Doubles,
    labelled: bool,
) -> RiskWindows:
    """The windows of some servers at one origin; those with an observed incident open are left out."""
    reach = max(getattr(forecaster, "history_steps", position + 1), HISTORY_STEPS)
    past = recent(known, position, reach).of_servers(rows)
    forecast = forecaster.forecast(past, known.time_at(position))
    own = limits[rows]
    by_metric = incident_probabilities(forecast.quantiles, forecast.levels, own)
    raw = np.fmax.reduce(np.where(np.isfinite(own)[:, :, None], by_metric, np.nan), axis=1)
    kept = ~np.isnan(raw[:, -1])
    if not labelled:
        kept &= ~open_now(past, forecast.metrics, own).any(axis=1)
    found = risk_features(past, forecast, own)
    return RiskWindows(
        found.names, found.rising, found.values[kept], raw[kept], truth[kept], rows[kept],
        np.full(int(kept.sum()), position), weights[kept], np.zeros((0, 0), np.int64), np.zeros((0, 0)),
        struck_for(past, forecast.metrics, own)[kept], {},
    )  # fmt: skip


def _joined(parts: Sequence[RiskWindows]) -> RiskWindows:
    arrays = ("features", "raw", "outcomes", "servers", "origins", "weights", "sources", "strengths", "struck")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    return replace(parts[0], **joined)


def _events(incidents: npt.NDArray[np.int64], positions: Sequence[int]) -> dict[str, int]:
    """Distinct incidents that begin within each horizon of some origin."""
    onsets, starts = incidents[:, 2], np.sort(np.asarray(positions))
    before = np.searchsorted(starts, onsets, side="left") - 1
    lead = np.where(before >= 0, onsets - starts[np.maximum(before, 0)], np.iinfo(np.int64).max)
    return {name: len(np.unique(incidents[lead <= steps][:, [0, 2]], axis=0)) for name, steps in HORIZONS.items()}


def recent(fleet: FleetArrays, position: int, steps: int) -> FleetArrays:
    """The same fleet on a time axis of at most so many steps that ends at a position, without a copy."""
    first = max(position + 1 - steps, 0)
    return replace(fleet, start=fleet.start + STEP_SECONDS * first, values=fleet.values[:, first : position + 1])


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
