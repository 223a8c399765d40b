"""The best possible forecast of a simulated fleet: futures drawn from its latent state at an origin.

The oracle knows all that has been decided by the origin (levels, noises, episodes under way and how far they are) and
the rules. It draws the rest anew, with random numbers that the simulation never uses, so it never sees the future that
comes. No model can do better on average, since none sees more than the oracle knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP, forecast_schema, quantile_column
from fleetcast.contract.vocabulary import QUANTILE_LEVELS, STEP_SECONDS
from fleetcast.errors import UsageError
from fleetcast.simulate.actions import between
from fleetcast.simulate.episode_steps import STRIKE
from fleetcast.simulate.simulator import cells_of
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.waves import fleet_inputs
from fleetcast.simulate.world import Cell, World

INCIDENT_STEPS = (6, 24, 96)  # 30 min, 2 h, 8 h
BATCHES = 8  # groups of samples whose spread gives the Monte Carlo error


@dataclass(frozen=True)
class OracleForecast:
    """What an oracle says, and how exactly.

    `quantiles` [origin, server, metric, step, level]; `probability` [origin, server, horizon] of an onset within
    `INCIDENT_STEPS` steps; `quantile_error` (same shape as `quantiles`) and `probability_error` are Monte Carlo
    standard errors. `origins` are Unix seconds; step k lies k x 5 minutes after its origin.
    """

    servers: tuple[str, ...]
    profiles: tuple[str, ...]
    metrics: tuple[str, ...]
    levels: tuple[float, ...]
    origins: npt.NDArray[np.int64]
    samples: int
    quantiles: npt.NDArray[np.float32]
    quantile_error: npt.NDArray[np.float32]
    probability: npt.NDArray[np.float64]

    @property
    def probability_error(self) -> npt.NDArray[np.float64]:
        """Standard error of each probability, sqrt(p (1 - p) / samples) with p moved off 0 and 1 by half a sample."""
        p = np.clip(self.probability, 0.5 / self.samples, 1 - 0.5 / self.samples)
        return np.asarray(np.sqrt(p * (1 - p) / self.samples))

    def table(self) -> pa.Table:
        """A forecast table (`forecast_schema`) with `source` = `oracle`."""
        origins, servers, metrics, steps, _ = self.quantiles.shape
        place = np.indices((origins, servers, metrics, steps)).reshape(4, -1)
        origin, step = self.origins[place[0]], place[3] + 1
        flat = self.quantiles.reshape(-1, len(self.levels))
        return pa.table(
            {
                "server": np.array(self.servers)[place[1]],
                "profile": np.array(self.profiles)[place[1]],
                "metric": np.array(self.metrics)[place[2]],
                "origin": pa.array(origin).cast(TIMESTAMP),
                "step": pa.array(step, pa.int32()),
                "timestamp": pa.array(origin + STEP_SECONDS * step).cast(TIMESTAMP),
                **{quantile_column(level): flat[:, column] for column, level in enumerate(self.levels)},
                "source": np.full(len(step), "oracle"),
                "reason": pa.nulls(len(step), pa.string()),
            },
            schema=forecast_schema(self.levels),
        )


def oracle_forecast(
    spec: FleetSpec,
    servers: Sequence[int],
    origins: Sequence[datetime],
    samples: int = 400,
    horizon: int = 96,
    levels: Sequence[float] = QUANTILE_LEVELS,
    metrics: Sequence[str] = DEFAULT_TARGETS,
) -> OracleForecast:
    """Conditional quantiles and incident probabilities, given the latent state after each origin's sample.

    Args:
        spec: the fleet; its `hours` do not matter.
        servers: indices in the fleet.
        origins: times on the 5-minute grid, not before the fleet's start, in ascending order.
        samples: futures drawn for each origin, a multiple of 8.
        horizon: steps ahead.
        levels: quantile levels.
        metrics: metrics of the contract but the uptime.

    Raises:
        UsageError: an argument that cannot be used.
    """
    steps = _checked(spec, origins, samples, horizon, metrics)
    inputs = fleet_inputs(spec)  # a scenario's waves are a matter of the clock: known ahead
    world = World(spec)
    columns = [METRIC_NAMES.index(name) for name in metrics]
    shape = (len(steps), len(servers))
    quantiles = np.empty((*shape, len(columns), horizon, len(levels)), np.float32)
    errors, probability = np.empty_like(quantiles), np.empty((*shape, len(INCIDENT_STEPS)))
    names: list[str] = []
    for cell in cells_of(world, servers):
        at = slice(len(names), len(names) + len(cell.rows))
        shared_state, now = world.fleet_state(), spec.first_step
        for number, step in enumerate(steps):
            shared = world.shared(shared_state, now, step + 1 - now)
            world.run(cell, now, step + 1 - now, shared, inputs=between(inputs, now, step + 1 - now))
            now = step + 1
            values, struck = _futures(world, cell, shared_state, now, horizon, samples, columns, inputs)
            quantiles[number, at], errors[number, at] = _quantiles(values, levels)
            for column, within in enumerate(INCIDENT_STEPS):
                probability[number, at, column] = struck[:, :, :within].any(axis=2).mean(axis=0)
        names += [world.layout.name(int(server)) for server in cell.servers[cell.rows]]
    profiles = {world.layout.name(server): world.layout.profile(server) for server in servers}
    return OracleForecast(
        tuple(names), tuple(profiles[name] for name in names), tuple(metrics), tuple(levels),
        np.array(steps, np.int64) * STEP_SECONDS, samples, quantiles, errors, probability,
    )  # fmt: skip


def _checked(
    spec: FleetSpec, origins: Sequence[datetime], samples: int, horizon: int, metrics: Sequence[str]
) -> list[int]:
    """The origins as steps. Raises `UsageError`."""
    if samples < BATCHES or samples % BATCHES or horizon < 1:
        raise UsageError(f"samples is {samples} and horizon {horizon}; give a multiple of {BATCHES}, and at least 1")
    unknown = [name for name in metrics if name not in METRIC_NAMES[:-1]]
    if unknown or not metrics:
        raise UsageError(f"no oracle for the metrics {unknown}; choose from {', '.join(METRIC_NAMES[:-1])}")
    seconds = [int(origin.timestamp()) for origin in origins]
    if not seconds or seconds != sorted(set(seconds)) or any(one % STEP_SECONDS for one in seconds):
        raise UsageError("origins must be on the 5-minute grid, in ascending order, at least one")
    if seconds[0] < spec.start_seconds:
        raise UsageError(f"origin {origins[0].isoformat()} lies before the fleet's start {spec.start.isoformat()}")
    return [one // STEP_SECONDS for one in seconds]


def _futures(
    world: World,
    cell: Cell,
    shared_state: npt.NDArray[np.void],
    first: int,
    horizon: int,
    samples: int,
    columns: list[int],
    inputs: npt.NDArray[np.void],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Drawn futures of a cell: values [sample, server, metric, step] and onsets [sample, server, step]."""
    values = np.empty((samples, len(cell.rows), len(columns), horizon), np.float32)
    struck = np.empty((samples, len(cell.rows), max(horizon, INCIDENT_STEPS[-1])), bool)
    steps = struck.shape[2]
    given = between(inputs, first, steps)
    for sample in range(samples):
        shared = world.shared(shared_state.copy(), first, steps, sample + 1)
        run = world.run(cell.copy(), first, steps, shared, sample + 1, given)
        values[sample] = np.moveaxis(run.values[columns][:, :, :horizon], 0, 1)
        struck[sample] = (run.flags & STRIKE) != 0
    return values, struck


def _quantiles(
    values: npt.NDArray[np.float32], levels: Sequence[float]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Quantiles over the samples [server, metric, step, level], and their standard errors by batch means."""
    samples = len(values)
    drawn = np.ascontiguousarray(np.moveaxis(values, 0, -1))
    batches = _sorted_quantiles(drawn.reshape(*drawn.shape[:-1], BATCHES, samples // BATCHES), levels)
    errors = batches.std(axis=-2, ddof=1) / np.sqrt(BATCHES)
    return _sorted_quantiles(drawn, levels).astype(np.float32), errors.astype(np.float32)


def _sorted_quantiles(values: npt.NDArray[np.float32], levels: Sequence[float]) -> npt.NDArray[np.float64]:
    """Quantiles along the last axis [..., level], linear between order statistics (Hyndman and Fan, type 7)."""
    ordered = np.sort(values, axis=-1)
    position = np.asarray(levels) * (values.shape[-1] - 1)
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, values.shape[-1] - 1)
    low, high = ordered[..., lower].astype(np.float64), ordered[..., upper]
    return np.asarray(low + (high - low) * (position - lower))
