"""Incidents that come from upstream: a server's probability given those of the servers that it depends on.

    P = 1 - (1 - expit(intercept + slope logit p)) x product over upstreams u of (1 - reach x strength[u] x p[u])

p is what the server's own forecast and samples say; the dependencies and their strengths are the dataset's topology,
known at the origin. `reach` (0 to 1), slope and intercept are fitted for each horizon by maximum likelihood: p already
holds the average of what comes from upstream, which the line takes back. Only the first upstream is looked at: a chain
of two is in the p of the nearer one as far as its own past shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, Field
from scipy.optimize import minimize
from scipy.special import expit, logit

from fleetcast.contract.thresholds import threshold_matrix
from fleetcast.contract.vocabulary import STEPS_PER_HOUR, profile_codes
from fleetcast.windows.arrays import FleetArrays

CLIP = 1e-6
STRUCK_STEPS = 24
RIDGE = 2.0  # normal priors around slope 1, intercept 0
SLOPES, REACHES = (0.3, 2.0), (0.0, 1.0)

Doubles = npt.NDArray[np.float64]


class Spread(BaseModel):
    """How far incidents reach downstream within one horizon."""

    reach: float = Field(0.0, ge=0, le=1)
    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0


class Dependencies:
    """Who depends on whom: `sources` are positions of servers [server, slot], -1 for none, `strengths` theirs."""

    def __init__(self, servers: Sequence[str], topology: pa.Table | None) -> None:
        """`topology` has the schema `TOPOLOGY`; dependencies on servers that are not among `servers` are left out."""
        places = {name: place for place, name in enumerate(servers)}
        upstreams: list[list[tuple[int, float]]] = [[] for _ in servers]
        for edge in [] if topology is None else topology.to_pylist():
            if edge["upstream"] in places and edge["downstream"] in places:
                upstreams[places[edge["downstream"]]].append((places[edge["upstream"]], float(edge["strength"])))
        width = max(map(len, upstreams), default=0)
        self.sources = np.full((len(servers), width), -1, np.int64)
        self.strengths = np.zeros((len(servers), width))
        for place, found in enumerate(upstreams):
            for slot, (source, strength) in enumerate(found):
                self.sources[place, slot], self.strengths[place, slot] = source, min(max(strength, 0.0), 1.0)

    @property
    def any(self) -> bool:
        """Whether some server depends on another."""
        return bool((self.sources >= 0).any())

    def arriving(self, probabilities: Doubles) -> Doubles:
        """Strength x probability of each upstream, [server, slot], of probabilities [server]; 0 where unknown."""
        said = np.append(np.nan_to_num(probabilities), 0.0)
        return np.asarray(said[self.sources] * self.strengths)


def struck_for(fleet: FleetArrays, metrics: Sequence[str], limits: npt.NDArray[np.floating]) -> Doubles:
    """Steps since each server became critical, [server]; 0 at the fleet's last step, NaN where it has not.

    A server became critical at a step when a metric was at or above its critical limit there and none had been in the
    hour before. Onsets more than `STRUCK_STEPS` ago do not count. `limits` [server, metric] are those of `metrics`;
    other metrics have the profile's.
    """
    recent = fleet.slice(fleet.steps - STRUCK_STEPS - STEPS_PER_HOUR, fleet.steps)
    watched = threshold_matrix(fleet.metrics)[profile_codes(fleet.profiles)].astype(np.float32)
    for column, name in enumerate(metrics):
        watched[:, fleet.metrics.index(name)] = limits[:, column]
    critical = (recent.values >= watched[:, None]).any(axis=2)
    counts = np.pad(np.cumsum(critical, axis=1), ((0, 0), (1, 0)))
    before = counts[:, STEPS_PER_HOUR:-1] - counts[:, : -STEPS_PER_HOUR - 1]
    begun = critical[:, STEPS_PER_HOUR:] & (before == 0)
    since = begun[:, ::-1].argmax(axis=1).astype(np.float64)
    return np.where(begun.any(axis=1), since, np.nan)


def spread(own: Doubles, arriving: Doubles, parameters: Spread) -> Doubles:
    """Probabilities [server] from the servers' own [server] and what arrives [server, slot]; NaN stays NaN."""
    odds = logit(np.clip(own, CLIP, 1 - CLIP))
    spared = (1.0 - parameters.reach * np.minimum(arriving, 1.0)).prod(axis=1)
    return np.asarray(1.0 - (1.0 - expit(parameters.intercept + parameters.slope * odds)) * spared)


def fit_spread(own: Doubles, arriving: Doubles, happened: Doubles, weights: Doubles) -> Spread:
    """Fit to windows: own probabilities, outcomes and weights [window], and what arrives [window, slot]."""
    known = ~(np.isnan(own) | np.isnan(happened)) & (weights > 0)
    if not known.any() or not (arriving[known] > 0).any():
        return Spread()
    own, arriving, hit, weight = own[known], arriving[known], happened[known] > 0.5, weights[known]

    def loss(found: Doubles) -> float:
        said = spread(own, arriving, Spread(reach=found[0], slope=found[1], intercept=found[2]))
        said = np.clip(said, CLIP, 1 - CLIP)
        prior = RIDGE / 2 * (np.log(found[1]) ** 2 + found[2] ** 2)
        return float(-(weight * np.where(hit, np.log(said), np.log1p(-said))).sum() + prior)

    best = minimize(loss, np.array([0.3, 1.0, 0.0]), method="L-BFGS-B", bounds=[REACHES, SLOPES, (-2.0, 2.0)]).x
    return Spread(reach=float(best[0]), slope=float(best[1]), intercept=float(best[2]))
