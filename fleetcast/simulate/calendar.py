"""The market's calendar: local hours, trading days, half-days, month-ends (New York, exchange XNYS)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import numpy.typing as npt
import pandas as pd

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR

TIMEZONE = "America/New_York"
EXCHANGE = "XNYS"
OPEN, CLOSE = 9.5, 16.0  # local hours of a full session
MONTH_END_SESSIONS = 2
BUSY = (8, 19)  # local hours of a weekday


@dataclass(frozen=True)
class MarketTime:
    """Calendar of a run of steps; all arrays have shape [time].

    `hour` is the local hour of a full trading day: on a half-day the session is compressed, so that the closing hours
    come early. `month_end` is 1 on the last sessions of a month, 1.5 of a quarter, else 0. `slot` counts the 5-minute
    steps of the local day; `busy` is 8 to 19 on weekdays.
    """

    hour: npt.NDArray[np.float64]
    weekday: npt.NDArray[np.int64]
    trading: npt.NDArray[np.bool_]
    month_end: npt.NDArray[np.float64]
    slot: npt.NDArray[np.int16]
    busy: npt.NDArray[np.bool_]


def market_time(start: int, steps: int) -> MarketTime:
    """The market's calendar for `steps` steps from `start` (Unix seconds)."""
    seconds = start + STEP_SECONDS * np.arange(steps, dtype=np.int64)
    local = pd.to_datetime(seconds, unit="s", utc=True).tz_convert(ZoneInfo(TIMEZONE))
    hour = np.asarray(local.hour + local.minute / 60.0, dtype=np.float64)
    days = local.tz_localize(None).normalize()
    sessions = _sessions(days[0], days[-1])
    found = sessions.reindex(days)
    trading = np.asarray(found["close"].notna())
    close = np.asarray(found["close"].fillna(CLOSE), dtype=np.float64)
    return MarketTime(
        hour=_full_day_hour(hour, close),
        weekday=np.asarray(local.dayofweek, dtype=np.int64),
        trading=trading,
        month_end=np.asarray(found["month_end"].fillna(0.0), dtype=np.float64),
        slot=np.asarray(local.hour * STEPS_PER_HOUR + local.minute // 5, dtype=np.int16),
        busy=np.asarray((local.dayofweek < 5) & (local.hour >= BUSY[0]) & (local.hour < BUSY[1])),
    )


def _sessions(first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """Closing hour and month-end weight of each session of the months that the days touch."""
    return _sessions_of_months(first.replace(day=1), last.replace(day=1))


@lru_cache(maxsize=64)
def _sessions_of_months(begin: pd.Timestamp, final: pd.Timestamp) -> pd.DataFrame:
    until = final + pd.DateOffset(months=1) - pd.Timedelta(days=1)
    exchange = exchange_calendars.get_calendar(EXCHANGE, start=begin - pd.Timedelta(days=7), end=until)
    closes = exchange.closes.dt.tz_convert(ZoneInfo(TIMEZONE))
    table = pd.DataFrame({"close": closes.dt.hour + closes.dt.minute / 60.0})
    days = pd.DatetimeIndex(table.index)
    from_the_end = table.groupby(days.year * 12 + days.month).cumcount(ascending=False)
    weight = np.where(days.month % 3 == 0, 1.5, 1.0)
    table["month_end"] = np.where(from_the_end < MONTH_END_SESSIONS, weight, 0.0)
    return table


def _full_day_hour(hour: npt.NDArray[np.float64], close: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Map the hours of a day that closes at `close` onto a full day's: the session shrinks, the evening moves up."""
    in_session = OPEN + (hour - OPEN) * (CLOSE - OPEN) / (close - OPEN)
    after = np.minimum(hour + CLOSE - close, 24.0)
    return np.where(hour <= OPEN, hour, np.where(hour <= close, in_session, after))
