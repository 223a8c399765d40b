"""What a forecaster may see at an origin, as features: the server's own samples up to it, the calendar, the profile."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.simulate.reference.scales import CODES, Floats, Scales

DAY = STEPS_PER_DAY
LEVEL = HALF_HOUR = STEPS_PER_HOUR // 2  # steps that the present level is the mean of
CURVES = 4  # yesterday, mean of like days, the oldest day of the context, what followed the likest half hour
EDGES = (0, 1, 2, 3, 4, 6, 9, 12, 18, 24, 36, 48, 72, 96, 144, 192, 240, 288)  # steps back from the origin
TREND_STEPS = (6, 12, 24, 72)
NEVER = 10.0  # log2 of the steps to a threshold that no trend leads to
BLOCK = 128  # servers prepared at a time

Calendar = tuple[npt.NDArray[np.floating], npt.NDArray[np.integer], npt.NDArray[np.bool_]]


class Fleet:
    """A fleet's samples made ready to read features at any server and origin.

    Scaled series lie as [server, metric, time]; gaps hold the last sample before them (0, the profile's mean, before
    the first), so that no step knows of a later one.
    """

    def __init__(
        self, scales: Scales, values: Floats, profiles: npt.NDArray[np.int64], calendar: Calendar, context: int
    ) -> None:
        servers, steps, width = values.shape
        self.scales, self.context, self.targets = scales, context, scales.targets
        hour, weekday, trading = calendar
        self.series = torch.empty(servers, width, steps)
        self.gap = torch.empty(servers, steps)
        self.usual = torch.zeros(servers, len(self.targets), len(hour))
        for first in range(0, servers, BLOCK):
            rows = slice(first, first + BLOCK)
            self.series[rows], self.gap[rows] = _scaled(scales, values[rows], profiles[rows])
            self.usual[rows] = _usual(self.series[rows, self.targets], trading, context // DAY)
        self.days = self.series.unfold(2, DAY, 1)
        self.half_hours = functional.avg_pool1d(self.series[:, self.targets], HALF_HOUR, 1).unfold(
            2, context - HALF_HOUR + 1, 1
        )
        self.watched, limits = scales.limits()
        self.profile = torch.from_numpy(profiles)
        self.limit = limits[self.profile]
        self.clock = torch.cat([_hats(torch.as_tensor(hour % 24).float()[:, None], range(25)), _one_hot(weekday, 7)], 1)
        self.trading = torch.as_tensor(trading).float()

    def features(self, server: Tensor, origin: Tensor, horizon: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of windows that end with the sample at `origin` [window] of `server` [window].

        Returns the features [window, feature], the targets' present level [window, target], and curves
        [window, CURVES, target, horizon] that say how the next steps went at other times, from where they began.
        """
        day = self.days[server, :, origin - DAY + 1]
        level = day[:, :, -LEVEL:].mean(2)
        now = level[:, self.targets]
        long = self.half_hours[server, :, origin - self.context + 1][:, :, self.context % HALF_HOUR :: HALF_HOUR]
        curves, starts, likeness = self._curves(day, long, now, server, origin, horizon)
        coarse = functional.adaptive_avg_pool1d(curves[:, :3].flatten(1, 2), -(-horizon // 3))
        likest = functional.adaptive_avg_pool1d(curves[:, 3], min(horizon, 8))
        blocks = [day[:, :, DAY - far : DAY - near].mean(2) - level for near, far in pairwise(EDGES)]
        parts = [level, *blocks, coarse.flatten(1), likest.flatten(1), likeness, *(start - now for start in starts)]
        parts += _spreads(day[:, self.targets], now) + _extremes(day[:, self.targets], long, now)
        parts += _towards(day[:, self.watched], self.limit[server])
        return torch.cat(parts + self._known(server, origin, horizon), 1), now, curves

    def _curves(
        self, day: Tensor, long: Tensor, now: Tensor, server: Tensor, origin: Tensor, horizon: int
    ) -> tuple[Tensor, list[Tensor], Tensor]:
        ahead = origin[:, None] + torch.arange(1, horizon + 1)
        target = torch.tensor(self.targets)[None, :, None]
        rows = server[:, None, None]
        oldest = self.series[rows, target, ahead[:, None] - self.context // DAY * DAY]
        usual = self.usual[server[:, None], :, ahead].transpose(1, 2)
        found = [day[:, self.targets, :horizon], usual, oldest]
        starts = [curve[:, :, :3].mean(2) for curve in found]
        likeness, place = _likest(long, now, horizon)
        end = origin[:, None] - HALF_HOUR * (long.shape[2] - 1 - place)
        found.append(self.series[rows, target, end[:, :, None] + torch.arange(1, horizon + 1)])
        begun = torch.stack([*starts, long.gather(2, place[:, :, None])[:, :, 0]], 1)
        return torch.stack(found, 1) - begun[..., None], starts, likeness

    def _known(self, server: Tensor, origin: Tensor, horizon: int) -> list[Tensor]:
        """Calendar, profile, and whether samples were missing."""
        days = [origin, origin + horizon, origin - DAY + 1, origin - DAY + horizon, origin - self.context + 1]
        gap = self.gap[server, origin]
        missing = torch.stack([(gap > 0).float(), (gap > 2).float(), torch.log2(1 + gap.clamp(max=DAY))], 1)
        trading = torch.stack([self.trading[day] for day in days], 1)
        return [missing, self.clock[origin], trading, functional.one_hot(self.profile[server], CODES).float()]


def _scaled(scales: Scales, values: Floats, profiles: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Scaled series [server, metric, time] without gaps, and the steps since any sample [server, time]."""
    scaled = (scales.compress(values.copy()) - scales.mean[profiles, None]) / scales.spread[profiles, None]
    seen = ~np.isnan(scaled)
    steps = np.arange(values.shape[1])
    last = np.maximum.accumulate(np.where(seen, steps[None, :, None], 0), axis=1)
    filled = np.nan_to_num(np.take_along_axis(scaled, last, axis=1), nan=0.0)
    gap = steps - np.maximum.accumulate(np.where(seen.any(axis=2), steps, 0), axis=1)
    return torch.from_numpy(np.ascontiguousarray(filled.transpose(0, 2, 1))), torch.from_numpy(gap.astype(np.float32))


def _usual(series: Tensor, trading: npt.NDArray[np.bool_], days: int) -> Tensor:
    """Mean of the same slot of the last `days` days [server, target, time], of the days like it where there are any.

    A day is like another when both are trading days or both are not. The calendar may reach beyond the samples.
    """
    steps, known = series.shape[2], torch.as_tensor(trading)
    mean, like = torch.zeros(2, *series.shape[:2], len(known))
    count, alike = torch.zeros(2, len(known))
    for lag in range(DAY, days * DAY + 1, DAY):
        until = min(len(known), steps + lag)
        past, same = series[:, :, : until - lag], (known[lag:until] == known[: until - lag]).float()
        mean[:, :, lag:until] += past
        like[:, :, lag:until] += past * same
        count[lag:until] += 1
        alike[lag:until] += same
    return torch.where(alike > 0, like / alike.clamp(min=1), mean / count.clamp(min=1))


def _likest(long: Tensor, now: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """How near, [window, target], and which half hour of the context was most like the last, by level and trend.

    Only half hours that a whole horizon follows up to the origin count.
    """
    trend = long[:, :, 4:] - long[:, :, :-4]
    cost = (long[:, :, 4:] - now[:, :, None]).abs() + 0.5 * (trend - trend[:, :, -1:]).abs()
    least = cost[:, :, : cost.shape[2] - -(-horizon // HALF_HOUR)].min(2)
    return least.values, least.indices + 4


def _spreads(day: Tensor, now: Tensor) -> list[Tensor]:
    recent = [day[:, :, -steps:] for steps in (12, 36, 96, DAY)]
    return [part for past in recent for part in (past.std(2), past.amax(2) - now, past.amin(2) - now)]


def _extremes(day: Tensor, long: Tensor, now: Tensor) -> list[Tensor]:
    """Where the level lies in the context's range, and how soon the trend would leave the range."""
    high = long.amax(2) - now
    steepest = (long[:, :, 1:] - long[:, :, :-1]).amin(2)
    parts = [high, long.amin(2) - now, long.mean(2) - now, long.std(2), steepest]
    for steps in (24, 96, DAY):
        slope = (now - day[:, :, DAY - steps : DAY - steps + LEVEL].mean(2)) / (steps - LEVEL)
        parts.append(torch.atan(high / 96 / (slope.abs() + 1e-4) * torch.sign(slope)))
    return parts


def _towards(day: Tensor, limit: Tensor) -> list[Tensor]:
    """How far the metrics with a critical threshold are from it, how soon their trends reach it, and time above it."""
    current = day[:, :, -3:].mean(2)
    room = limit - current
    nearness = torch.log2((room / limit.clamp(min=1)).clamp(0.004, 2))
    parts = [nearness, _hats(nearness, range(-8, 2)), day[:, :, -1] - day[:, :, -2], day[:, :, -1] - current]
    parts += [(day[:, :, -steps:] >= limit[:, :, None]).float().mean(2) for steps in (1, 3, 12, 96)]
    times = []
    for steps in TREND_STEPS:
        slope = (current - day[:, :, DAY - steps - 3 : DAY - steps].mean(2)) / steps
        wait = torch.log2((room.clamp(min=0) / slope.clamp(min=1e-5)).clamp(1, 2**NEVER))
        times.append(torch.where(slope > 1e-5, wait, NEVER))
    soon = torch.cat(times, 1)
    return [*parts, soon, _hats(soon, np.arange(0, 11, 1.25).tolist()), soon.amin(1, keepdim=True)]


def _hats(values: Tensor, knots: Sequence[float]) -> Tensor:
    """Values [row, column] as weights of even knots, [row, column x knot]: 1 at a knot, 0 at its neighbours."""
    distance = (values[:, :, None] - torch.tensor(list(knots))).abs() / (knots[1] - knots[0])
    return (1 - distance).clamp(min=0).flatten(1)


def _one_hot(codes: npt.NDArray[np.integer], count: int) -> Tensor:
    return functional.one_hot(torch.as_tensor(codes).long(), count).float()
