"""What episodes and maintenance do to servers over time: channel intensities, boots, steps without samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetcast.contract.thresholds import THRESHOLDS
from fleetcast.simulate.episodes import Episode
from fleetcast.simulate.kinds import CHANNELS
from fleetcast.simulate.maintenance import Window
from fleetcast.simulate.traits import Traits

FAST_ONSET = 0.45  # intensity of the fast kinds at the end of the precursor
FAST_RISE, SLOW_RISE = 2, 6  # steps from onset to full intensity
FADE_STEPS = 3.0  # time constant of the recovery
FADED = 15  # steps after which a recovery is over
FREED, REFILL_STEPS = 0.25, 12.0  # share of memory that a restart frees, and how fast it comes back
DRAINED = 0.25  # demand left in a maintenance window
MEMORY_FULL, DISK_FULL = 1.0, 0.985  # what full intensity of these channels leads to


@dataclass(frozen=True)
class Effects:
    """All float arrays are [server, time] float32.

    `channels` are intensities from 0 to 1 by name; `demand` and `memory` are factors on the normal course; `offline`
    marks steps without a sample; `boots` lists the steps at which each server boots.
    """

    channels: dict[str, npt.NDArray[np.float32]]
    demand: npt.NDArray[np.float32]
    memory: npt.NDArray[np.float32]
    offline: npt.NDArray[np.bool_]
    boots: tuple[tuple[int, ...], ...]


def effects_of(
    traits: Traits, episodes: Sequence[Sequence[Episode]], planned: Sequence[Sequence[Window]], steps: int
) -> Effects:
    """Lay the episodes and windows of each server (in the order of `traits`) on the time axis."""
    shape = (len(traits.profiles), steps)
    effects = Effects(
        channels={name: np.zeros(shape, np.float32) for name in CHANNELS},
        demand=np.ones(shape, np.float32),
        memory=np.ones(shape, np.float32),
        offline=np.zeros(shape, dtype=bool),
        boots=tuple(_boots(own, windows, steps) for own, windows in zip(episodes, planned, strict=True)),
    )
    for row, own in enumerate(episodes):
        for episode in own:
            _lay_episode(effects, row, episode, _onset_intensity(traits, row, episode))
        for window in planned[row]:
            effects.demand[row, window.start : window.end] = DRAINED
            effects.offline[row, window.offline_start : window.offline_end] = True
        for boot in effects.boots[row]:
            _free_memory(effects, row, boot)
    return effects


def uptime(effects: Effects, traits: Traits, steps: int, step_seconds: int) -> npt.NDArray[np.float64]:
    """Seconds since the last boot [server, time]; a boot happens half a step before the first sample after it."""
    seconds = traits.boot + step_seconds * np.arange(steps, dtype=np.float64)
    for row, boots in enumerate(effects.boots):
        for boot in boots:
            seconds[row, boot:] = step_seconds * (0.5 + np.arange(steps - boot))
    return seconds


def intensity(episode: Episode, at_onset: float, rise: int) -> npt.NDArray[np.float32]:
    """Intensity of an episode at each step from its start until its recovery is over.

    A power law up to `at_onset` at the onset, then linear to the full severity within `rise` steps, held until the
    end, then an exponential recovery.
    """
    lead = episode.onset - episode.start
    lasting = np.arange(episode.end - episode.start)
    growth = at_onset * ((lasting + 1) / max(lead, 1)) ** episode.kind.shape
    burst = at_onset + (1 - at_onset) * np.minimum((lasting - lead + 1) / rise, 1.0)
    course = episode.severity * np.where(lasting < lead, growth, burst)
    recovery = course[-1] * np.exp(-np.arange(1, FADED + 1) / FADE_STEPS)
    return np.concatenate([course, recovery]).astype(np.float32)


def _onset_intensity(traits: Traits, row: int, episode: Episode) -> float:
    """Intensity at the end of the precursor: the slow kinds arrive at the threshold, the fast ones jump past it."""
    if episode.kind.driver == "memory":
        normal, full, critical = float(traits.memory[row, 0]), MEMORY_FULL, THRESHOLDS["memory_used"].critical
    elif episode.kind.driver == "disk":
        normal, full, critical = float(traits.filesystem[row, 0]), DISK_FULL, THRESHOLDS["filesystem_used"].critical
    else:
        return FAST_ONSET
    return (critical - normal) / (full - normal)


def _lay_episode(effects: Effects, row: int, episode: Episode, at_onset: float) -> None:
    steps = effects.offline.shape[1]
    curve = intensity(episode, at_onset, SLOW_RISE if episode.kind.driver else FAST_RISE)
    lasting = episode.end - episode.start
    for name, gain in episode.kind.gains.items():
        at_once = name == "disk" or episode.kind.repair_steps or (name == "memory" and episode.kind.restart)
        course = curve[:lasting] if at_once else curve
        target = effects.channels[name][row, episode.start : episode.start + len(course)]
        np.maximum(target, np.float32(gain) * course[: len(target)], out=target)
    if episode.end > episode.onset:
        if episode.kind.repair_steps:
            effects.offline[row, episode.end : episode.end + episode.kind.repair_steps] = True
        elif episode.kind.restart and episode.end < steps:
            _free_memory(effects, row, episode.end)


def _free_memory(effects: Effects, row: int, step: int) -> None:
    target = effects.memory[row, step:]
    freed = 1 - FREED * np.exp(-np.arange(len(target)) / REFILL_STEPS)
    np.minimum(target, freed.astype(np.float32), out=target)


def _boots(own: Sequence[Episode], planned: Sequence[Window], steps: int) -> tuple[int, ...]:
    repaired = [
        episode.end + episode.kind.repair_steps
        for episode in own
        if episode.kind.repair_steps and episode.end > episode.onset
    ]
    updated = [window.offline_end for window in planned if window.offline_end > window.offline_start]
    return tuple(sorted(step for step in repaired + updated if step < steps))
