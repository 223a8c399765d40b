"""Cases of incident scoring: for each origin, server and horizon what was said, what came, and what cannot be known.

Small arrays, so that a large fleet is collected chunk by chunk of servers and joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.errors import EvaluationError
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.censoring import remediated_steps, remediation_censors, unseen_censors
from fleetcast.risk.incidents import in_incident, incidents_of, open_now
from fleetcast.risk.judge import judge
from fleetcast.risk.limits import Limits, server_limits
from fleetcast.risk.model import RiskModel
from fleetcast.risk.probability import HORIZONS
from fleetcast.risk.spread import Dependencies, spread_all
from fleetcast.windows.arrays import FleetArrays

Doubles = npt.NDArray[np.float64]
Rival = Callable[[FleetArrays, Sequence[str], Limits], Doubles]


@dataclass(frozen=True)
class IncidentCases:
    """Axes are [origin, server] and [origin, server, horizon], horizons in the order of `HORIZONS`.

    `origins` are Unix seconds, ascending. `ahead` counts steps from the origin to the server's next onset, 0 for none
    in sight of the longest horizon. `censored` cases are not scored. `probability` and each of `rivals` are NaN where
    nothing was said; a rival's is a score that means more risk when it is higher, 1 being its own rule. `struck` are
    steps since the server became critical (NaN: it did not).
    """

    origins: npt.NDArray[np.int64]
    servers: tuple[str, ...]
    profiles: tuple[str, ...]
    ahead: npt.NDArray[np.int64]
    censored: npt.NDArray[np.bool_]
    probability: Doubles
    struck: Doubles
    rivals: dict[str, Doubles]

    @property
    def outcome(self) -> npt.NDArray[np.bool_]:
        """Whether an incident began within each horizon."""
        steps = np.array(list(HORIZONS.values()))
        return np.asarray((self.ahead[..., None] > 0) & (self.ahead[..., None] <= steps))

    def from_upstream(self, calibration: Calibration | None, topology: pa.Table | None) -> IncidentCases:
        """The same with what comes from upstream, as `risk.judge.from_upstream` adds it; of a whole fleet."""
        if calibration is None or topology is None or not calibration.spread:
            return self
        dependencies = Dependencies(self.servers, topology)
        found = [
            spread_all(said, struck, dependencies, calibration.spread)
            for said, struck in zip(self.probability, self.struck, strict=True)
        ]
        return replace(self, probability=np.stack(found))

    @staticmethod
    def concat(parts: Sequence[IncidentCases]) -> IncidentCases:
        """Chunks of servers with the same origins as one."""
        if any(not np.array_equal(part.origins, parts[0].origins) for part in parts):
            raise EvaluationError("incident cases of different origins cannot be joined")
        return IncidentCases(
            parts[0].origins,
            tuple(name for part in parts for name in part.servers),
            tuple(name for part in parts for name in part.profiles),
            np.concatenate([part.ahead for part in parts], axis=1),
            np.concatenate([part.censored for part in parts], axis=1),
            np.concatenate([part.probability for part in parts], axis=1),
            np.concatenate([part.struck for part in parts], axis=1),
            {name: np.concatenate([part.rivals[name] for part in parts], axis=1) for name in parts[0].rivals},
        )


def collect(
    fleet: FleetArrays,
    forecasts: Sequence[ForecastArrays],
    cutoff: datetime,
    calibration: Calibration | None = None,
    model: RiskModel | None = None,
    labels: pa.Table | None = None,
    remediated: pa.Table | None = None,
    rivals: Mapping[str, Rival] | None = None,
) -> IncidentCases:
    """The cases of a chunk of servers, from its samples and the forecasts made of it.

    Args:
        fleet: samples of the chunk, at least up to the last origin's longest horizon.
        forecasts: of the fleet's servers in its order, by ascending origin.
        cutoff: last time stamp that may be fitted on: servers' own limits are fitted up to it.
        calibration: lines of the model's manifest.
        model: the fitted risk model of the bundle.
        labels: known incidents (schema `INCIDENTS`); without any, those that the metrics tell.
        remediated: spans of remediation (schema `REMEDIATIONS`), censored.
        rivals: functions of the samples up to an origin, the metrics and the limits.

    What comes from upstream is not in them: `IncidentCases.from_upstream` adds it once all chunks are joined.

    Censored are servers in an incident at the origin or within the hour after one, windows without a sample or beyond
    the data, remediated ones, and those without a forecast.
    """
    metrics, steps = forecasts[0].metrics, tuple(HORIZONS.values())
    limits = server_limits(fleet.until(max(fleet.index_of(cutoff), 0)), metrics)
    incidents = incidents_of(fleet, metrics, labels, limits)
    remedies = remediated_steps(fleet, remediated)
    seen = np.asarray((~np.isnan(fleet.select(metrics))).any(axis=2))
    found: dict[str, list[Doubles]] = {name: [] for name in ("", *(rivals or {}))}
    ahead, censored, struck = [], [], []
    for forecast in forecasts:
        if forecast.servers != fleet.servers:
            raise EvaluationError("the forecast is of other servers than the samples, or in another order")
        position = fleet.index_of(forecast.origin)
        past = fleet.until(position)
        judged = judge(forecast, limits, calibration, model, past)
        said = judged.server
        found[""].append(said)
        struck.append(judged.struck)
        for name, rival in (rivals or {}).items():
            found[name].append(rival(past, metrics, limits))
        ahead.append(_ahead(incidents, len(fleet.servers), position, steps[-1]))
        hidden = unseen_censors(seen, position, steps) | np.isnan(said)
        hidden |= remediation_censors(remedies, incidents, len(fleet.servers), position, steps)
        hidden |= position + np.array(steps) >= fleet.steps
        busy = in_incident(incidents, len(fleet.servers), position)
        if labels is None or not labels.num_rows:
            busy |= open_now(past, metrics, limits).any(axis=1)
        censored.append(hidden | busy[:, None])
    origins = np.array([int(forecast.origin.timestamp()) for forecast in forecasts], dtype=np.int64)
    stacked = {name: np.stack(scores) for name, scores in found.items()}
    said = stacked.pop("")
    return IncidentCases(
        origins, fleet.servers, fleet.profiles, np.stack(ahead), np.stack(censored), said, np.stack(struck), stacked
    )  # fmt: skip


def _ahead(incidents: npt.NDArray[np.int64], servers: int, position: int, longest: int) -> npt.NDArray[np.int64]:
    """Steps to each server's next onset within the longest horizon, 0 for none."""
    found = np.zeros(servers, dtype=np.int64)
    for server, _, onset, _ in incidents[np.argsort(-incidents[:, 2])]:  # the earliest last, which stays
        if 0 < onset - position <= longest:
            found[server] = onset - position
    return found
