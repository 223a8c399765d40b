"""Forecasts a fleet: shards of servers to the forecasters, again elsewhere when one fails."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays
from serve_app.forecaster import Shard, ShardForecast
from serve_app.handles import Handle
from serve_app.schemas import ModelInfo
from serve_app.snapshot import without_forecast
from serve_app.tally import BATCHES, CALLS, SHARDS, Tally

logger = logging.getLogger("ray.serve")

ATTEMPTS = 4
PAUSE_S = 0.5
SHARD_TIMEOUT_S = 120.0
IN_FLIGHT = 16  # shards that wait for a forecaster or are in one


@dataclass(frozen=True)
class FleetForecast:
    """The forecast of a whole fleet, why servers have none, and how many calls were made again."""

    forecast: ForecastArrays
    problems: list[str]
    retried: int


class Sharding:
    """Sends shards of `size` servers to the forecasters."""

    def __init__(self, forecaster: Handle, size: int, tally: Tally) -> None:
        self._forecaster, self._size, self._tally = forecaster, size, tally

    async def forecast(self, fleet: FleetArrays, origin: datetime, model: ModelInfo) -> FleetForecast:
        """The forecast of every server by one model, in order.

        Servers of a shard that failed have source `none` and the reason.
        """
        room = asyncio.Semaphore(IN_FLIGHT)
        count = len(fleet.servers)
        shards = [
            fleet.of_servers(np.arange(first, min(first + self._size, count))) for first in range(0, count, self._size)
        ]
        with self._tally.under_way(SHARDS, len(shards)):
            answers = await asyncio.gather(*(self._one(Shard(shard, origin, model.digest), room) for shard in shards))
        parts, problems = [], []
        for shard, (answer, _) in zip(shards, answers, strict=True):
            if isinstance(answer, ShardForecast):
                parts.append(answer.forecast)
            else:
                problems.append(f"{len(shard.servers)} servers have no forecast: {answer}")
                parts.append(without_forecast(shard, origin, model, answer))
        return FleetForecast(ForecastArrays.concat(parts), problems, sum(again for _, again in answers))

    async def _one(self, shard: Shard, room: asyncio.Semaphore) -> tuple[ShardForecast | str, int]:
        """The shard's forecast or the reason why there is none, and how often it was asked for again."""
        reason = ""
        async with room:
            for attempt in range(ATTEMPTS):
                try:
                    call = self._forecaster.forecast.remote(shard)
                    answer: ShardForecast = await asyncio.wait_for(call, SHARD_TIMEOUT_S)
                except Exception as error:
                    reason = in_words(error)
                    logger.warning("forecast of %d servers failed (%d): %s", len(shard.fleet.servers), attempt, reason)
                    await asyncio.sleep(PAUSE_S * attempt)
                else:
                    self._tally.count(CALLS, SHARDS)
                    self._tally.count(BATCHES, SHARDS, 1 / answer.batch)
                    return answer, attempt
        return reason, ATTEMPTS - 1


def in_words(error: Exception) -> str:
    """An error of another process as one line: Ray's carry the whole traceback, their cause the message."""
    cause = getattr(error, "cause", None) or error
    text = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {text[-1] if text else 'no message'}"
