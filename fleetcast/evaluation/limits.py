"""How well a simulated fleet can be forecast at all: the oracle and the observations-only reference as rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY, STEPS_PER_HOUR, profile_codes
from fleetcast.errors import EvaluationError, LeakageError, UsageError
from fleetcast.simulate.calendar import market_time
from fleetcast.simulate.episode_steps import STRIKE
from fleetcast.simulate.layout import Layout
from fleetcast.simulate.oracle import oracle_forecast
from fleetcast.simulate.reference.learner import CONTEXT, ObservationReference
from fleetcast.simulate.simulator import SimulatedArrays, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World
from fleetcast.windows.arrays import FleetArrays

SAMPLES = 400
REFERENCE_WINDOWS = 1_000_000

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class OracleRival:
    """The conditional quantiles given the latent state of the simulated fleet at the origin."""

    spec: FleetSpec
    samples: int = SAMPLES

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Index of each server by its name."""
        layout = Layout(self.spec)
        return {layout.name(number): number for number in range(self.spec.servers)}

    def quantiles(self, past: FleetArrays, metrics: Sequence[str], horizon: int, levels: Sequence[float]) -> Floats:
        """As `Rival`; of the past only the servers' names and the last time stamp are used."""
        strangers = [name for name in past.servers if name not in self.numbers]
        if strangers:
            raise EvaluationError(f"no oracle of {strangers[0]}: the simulation that the manifest tells of has it not")
        rows = [self.numbers[name] for name in past.servers]
        origin = past.time_at(past.steps - 1)
        found = oracle_forecast(self.spec, rows, [origin], self.samples, horizon, levels, metrics)
        return found.quantiles[0, [found.servers.index(name) for name in past.servers]]


@dataclass(frozen=True)
class ReferenceRival:
    """A learner that saw a very large simulated corpus of other seeds, and of a server its samples up to the origin."""

    learner: ObservationReference

    @classmethod
    def fit(
        cls,
        spec: FleetSpec,
        corpus: FleetSpec,
        metrics: Sequence[str],
        horizon: int,
        history: int,
        windows: int = REFERENCE_WINDOWS,
    ) -> ReferenceRival:
        """Fit on a corpus, for a fleet of `spec` whose first origin has `history` steps up to it.

        Raises `LeakageError` when the corpus is of the fleet's own seed, `UsageError` when the history is too short,
        the reference does not forecast one of the metrics, or a length is out of range.
        """
        strange = [metric for metric in metrics if metric not in DEFAULT_TARGETS]
        if strange:
            raise UsageError(f"the reference does not forecast {', '.join(strange)}: leave it out of the rivals")
        if corpus.seed == spec.seed:
            raise LeakageError(f"the reference's corpus has the seed {spec.seed} of the fleet that is to be scored")
        if history < STEPS_PER_DAY:
            raise UsageError(f"the reference reads at least a day, the first origin has {history} steps up to it")
        arrays, _ = simulate_arrays(World(corpus), range(corpus.servers))
        values, profiles, onsets = _dense(arrays), profile_codes(arrays.profiles), (arrays.flags & STRIKE) != 0
        del arrays  # the same again in double precision
        context = min(CONTEXT, history)
        return cls(
            ObservationReference.fit(
                values, METRIC_NAMES, profiles, *_calendar(corpus.start_seconds,
                corpus.steps), onsets, windows=windows, context=context, horizon=horizon,
                seed=corpus.seed,
            )
        )  # fmt: skip

    def quantiles(self, past: FleetArrays, metrics: Sequence[str], horizon: int, levels: Sequence[float]) -> Floats:
        """As `Rival`."""
        steps = min(past.steps, CONTEXT)
        recent = past.slice(past.steps - steps, past.steps)
        found, _ = self.learner.predict(
            recent.select(METRIC_NAMES), recent.profile_codes, *_calendar(recent.start, steps + self.learner.horizon),
            np.array([steps - 1]), levels,
        )  # fmt: skip
        columns = [self.learner.targets.index(metric) for metric in metrics]
        return np.ascontiguousarray(found[0][:, columns, :horizon])


def _dense(arrays: SimulatedArrays) -> Floats:
    return np.stack([series.astype(np.float32) for series in arrays.values.values()], axis=2)


def _calendar(start: int, steps: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Local hour, weekday and trading day of the steps from a start in Unix seconds, as the reference takes them."""
    if start % STEP_SECONDS:
        raise EvaluationError(f"the data does not begin on the {STEP_SECONDS} s grid")
    market = market_time(start, steps)
    return np.asarray(market.slot / STEPS_PER_HOUR), market.weekday.copy(), market.trading.copy()
