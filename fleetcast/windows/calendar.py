"""Calendar inputs in the fleet's time zone."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd


def calendar_features(
    timestamps: npt.NDArray[np.int64], timezone: str, names: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Calendar of each time (Unix seconds), shape [time, len(names)].

    `hour` is local hours / 23, `day_of_week` 0 (Monday) to 6 over 6, `month` 1-12 over 12, `is_weekend` 0 or 1;
    `hour_sin`, `hour_cos` and `week_sin`, `week_cos` go round the local day and week.
    """
    local = pd.to_datetime(timestamps, unit="s", utc=True).tz_convert(ZoneInfo(timezone))
    hour = np.asarray(local.hour + local.minute / 60, dtype=np.float64)
    weekday = np.asarray(local.dayofweek, dtype=np.float64)
    day, week = 2 * np.pi * hour / 24, 2 * np.pi * (weekday + hour / 24) / 7
    found = {
        "hour": hour / 23,
        "day_of_week": weekday / 6,
        "month": np.asarray(local.month, dtype=np.float64) / 12,
        "is_weekend": (weekday >= 5).astype(np.float64),
        "hour_sin": np.sin(day),
        "hour_cos": np.cos(day),
        "week_sin": np.sin(week),
        "week_cos": np.cos(week),
    }
    return np.stack([found[name] for name in names], axis=1).astype(np.float32)
