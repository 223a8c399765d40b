"""Incidents that come from upstream: a server's probability given those of the servers that it depends on.

    P = 1 - (1 - expit(intercept + slope logit p)) x product over upstreams u of
            (1 - reach x strength[u] x p[u]) x (1 - after[a] x strength[u])

p is what the server's own forecast and samples say; the dependencies and their strengths are the dataset's topology,
known at the origin. The second factor is there where u became critical a moment ago: `a` is the bucket of `AGES` that
the steps since then fall in. All parameters are fitted for each horizon by maximum likelihood: p already holds the
average of what comes from upstream, which the line takes back. Only the first upstream is looked at: a chain of two is
in the p of the nearer one as far as its own past shows it.

What a server's own samples say is worked out chunk by chunk of a fleet (`struck_for` too); this stage needs a few
numbers a server and sees the whole fleet, so it does not matter which chunk an upstream was in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, Field
from scipy.special import expit, logit

from fleetcast.contract.thresholds import threshold_matrix
from fleetcast.contract.vocabulary import STEPS_PER_HOUR, profile_codes
from fleetcast.risk.probability import HORIZONS
from fleetcast.windows.arrays import FleetArrays

CLIP = 1e-6
STRUCK_STEPS = 24
AGES = (2, 5, 9, STRUCK_STEPS)  # steps since an upstream became critical: the ends of the buckets
RIDGE = 2.0  # normal priors around slope 1, intercept 0
SLOPES, REACHES, AFTERS = (0.3, 2.0), (0.0, 1.0), (0.0, 0.99)

Doubles = npt.NDArray[np.float64]


class Spread(BaseModel):
    """How far incidents reach downstream within one horizon."""

    reach: float = Field(0.0, ge=0, le=1)
    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0
    after: tuple[float, ...] = Field((0.0,) * len(AGES), description="chance after an upstream's onset, by age")


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

    def arriving(self, probabilities: Doubles, struck: Doubles) -> Arriving:
        """What comes from each server's upstreams, of probabilities and steps since the onset, both [server]."""
        said, since = np.append(probabilities, np.nan), np.append(struck, np.nan)
        return arriving(said[self.sources], since[self.sources], self.strengths)


def struck_for(fleet: FleetArrays, metrics: Sequence[str], limits: npt.NDArray[np.floating]) -> Doubles:
    """Steps since each server became critical, [server]; 0 at the fleet's last step, NaN where it has not.

    A server became critical at a step when a metric was at or above its critical limit there and none had been in the
    hour before. Onsets more than `STRUCK_STEPS` ago do not count. `limits` [server, metric] are those of `metrics`;
    other metrics have the profile's.
    """
    recent = fleet.slice(fleet.steps - STRUCK_STEPS - STEPS_PER_HOUR, fleet.steps)
    watched = threshold_matrix(fleet.metrics)[profile_codes(fleet.profiles)].astype(np.float32)
    for column, name in enumerate(metrics):
        if name in fleet.metrics:
            watched[:, fleet.metrics.index(name)] = limits[:, column]
    critical = np.asarray((recent.values >= watched[:, None]).any(axis=2))
    counts: npt.NDArray[np.int64] = np.pad(np.cumsum(critical, axis=1), ((0, 0), (1, 0)))
    before = counts[:, STEPS_PER_HOUR:-1] - counts[:, : -STEPS_PER_HOUR - 1]
    begun = critical[:, STEPS_PER_HOUR:] & (before == 0)
    since = begun[:, ::-1].argmax(axis=1).astype(np.float64)
    return np.where(begun.any(axis=1), since, np.nan)


@dataclass(frozen=True)
class Arriving:
    """What comes from upstreams: strength x probability [server, slot], and strength by age [server, slot, age]."""

    ahead: Doubles
    struck: Doubles

    def of(self, rows: npt.NDArray[np.generic]) -> Arriving:
        """That of some servers."""
        return Arriving(self.ahead[rows], self.struck[rows])


def arriving(probabilities: Doubles, struck: Doubles, strengths: Doubles) -> Arriving:
    """From the upstreams' probabilities and steps since they became critical (NaN: did not), all [server, slot]."""
    bucket = np.where(np.isnan(struck), -1, np.searchsorted(AGES, np.nan_to_num(struck), side="right"))
    return Arriving(
        np.nan_to_num(probabilities) * strengths,
        (bucket[..., None] == np.arange(len(AGES))) * strengths[..., None],
    )


def spread(own: Doubles, upstream: Arriving, parameters: Spread) -> Doubles:
    """Probabilities [server] from the servers' own [server] and what arrives; NaN stays NaN."""
    odds = logit(np.clip(own, CLIP, 1 - CLIP))
    spared = (1.0 - parameters.reach * np.minimum(upstream.ahead, 1.0)).prod(axis=1)
    spared = spared * (1.0 - upstream.struck @ np.asarray(parameters.after)).prod(axis=1)
    return np.asarray(1.0 - (1.0 - expit(parameters.intercept + parameters.slope * odds)) * spared)


def spread_all(
    server: Doubles, struck: Doubles, dependencies: Dependencies, by_horizon: Mapping[str, Spread]
) -> Doubles:
    """Probabilities [server, horizon] with what comes from upstream, where a spread was fitted.

    `struck` [server] are steps since each became critical (`struck_for`). The result never falls with the horizon.
    """
    found = server.copy()
    for place, name in enumerate(HORIZONS):
        if name in by_horizon and dependencies.any:
            found[:, place] = spread(
                server[:, place], dependencies.arriving(server[:, place], struck), by_horizon[name]
            )
    return np.maximum.accumulate(found, axis=1)


def fit_spread(own: Doubles, upstream: Arriving, happened: Doubles, weights: Doubles) -> Spread:
    """Fit to windows: own probabilities, outcomes and weights [window], and what arrives at each."""
    from scipy.optimize import minimize  # noqa: PLC0415  # only fitting needs it

    known = ~(np.isnan(own) | np.isnan(happened)) & (weights > 0)
    if not known.any() or not ((upstream.ahead[known] > 0).any() or upstream.struck[known].any()):
        return Spread()
    own, upstream, hit, weight = own[known], upstream.of(known), happened[known] > 0.5, weights[known]

    def loss(found: Doubles) -> float:
        said = np.clip(spread(own, upstream, _parameters(found)), CLIP, 1 - CLIP)
        prior = RIDGE / 2 * (np.log(found[1]) ** 2 + found[2] ** 2)
        return float(-(weight * np.where(hit, np.log(said), np.log1p(-said))).sum() + prior)

    start = np.array([0.3, 1.0, 0.0, *(0.1 for _ in AGES)])
    bounds = [REACHES, SLOPES, (-2.0, 2.0), *(AFTERS for _ in AGES)]
    return _parameters(minimize(loss, start, method="L-BFGS-B", bounds=bounds).x)


def _parameters(found: Doubles) -> Spread:
    return Spread(reach=found[0], slope=found[1], intercept=found[2], after=tuple(found[3:]))
