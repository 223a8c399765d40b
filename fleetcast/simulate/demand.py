"""The latent demand on each server, from which all metrics follow."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.simulate.calendar import market_time
from fleetcast.simulate.profiles import COURSES, SMOOTH_STEPS, day_curve
from fleetcast.simulate.randomness import FLEET, normals
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.traits import PHASE_STEPS, Traits

Series = npt.NDArray[np.float32]
SLOW_SPREAD, FAST_SPREAD, FLEET_SPREAD = 0.10, 0.06, 0.04
NEGLIGIBLE = 1e-9  # weights of the past that a float32 does not show
BURST_FROM, BURST_SIZE = 2.6, 0.45  # a burst comes where a normal number exceeds the first


def autoregressive(normal: Series, memory: float) -> Series:
    """AR(1) noise [..., time] with unit variance from standard normal innovations; `memory` is its coefficient."""
    scaled = normal * np.float32(math.sqrt(1 - memory * memory))
    scaled[..., 0] = normal[..., 0]
    return _one_pole(scaled, memory)


def lagged(series: Series, memory: float) -> Series:
    """Exponentially weighted mean of the past [server, time], starting from the first value."""
    scaled = series * np.float32(1 - memory)
    scaled[:, 0] = series[:, 0]
    return _one_pole(scaled, memory)


def normal_demand(spec: FleetSpec, traits: Traits, slow: Series, fast: Series, burst: Series) -> Series:
    """Demand [server, time] without incidents, relative to a healthy mean hour of the profile.

    The course of the day, week and month (New York, exchange calendar), the server's level and phase, slow and fast
    AR(1) noise, a slow factor common to the fleet, and bursts that fade within the hour. `slow`, `fast`, `burst` are
    standard normal innovations [server, time].
    """
    padding = PHASE_STEPS + SMOOTH_STEPS // 2
    market = market_time(spec.start_seconds - padding * STEP_SECONDS, spec.steps + 2 * padding)
    curves = {profile: day_curve(COURSES[profile], market) for profile in set(traits.profiles)}
    shifts = [PHASE_STEPS + phase for phase in traits.phase]
    course = np.stack(
        [curves[profile][shift : shift + spec.steps] for profile, shift in zip(traits.profiles, shifts, strict=True)]
    )
    common = autoregressive(normals(spec.seed, [FLEET], spec.steps, 1)[0], 0.99)
    exponent = autoregressive(slow, 0.985) * np.float32(SLOW_SPREAD)
    exponent += autoregressive(fast, 0.6) * np.float32(FAST_SPREAD)
    exponent += common * np.float32(FLEET_SPREAD)
    bursts = _one_pole(np.maximum(burst - np.float32(BURST_FROM), 0) * np.float32(BURST_SIZE), 0.7)
    return np.asarray(traits.level * course * np.exp(exponent) * (1 + bursts), dtype=np.float32)


def _one_pole(series: Series, memory: float) -> Series:
    """y[t] = x[t] + memory y[t - 1] along the last axis, by doubling: each pass takes in twice as much of the past."""
    filtered = np.array(series, np.float32)
    reach, weight = 1, memory
    while weight > NEGLIGIBLE and reach < filtered.shape[-1]:
        filtered[..., reach:] += np.float32(weight) * filtered[..., :-reach]
        reach, weight = 2 * reach, weight * weight
    return filtered
