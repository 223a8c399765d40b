"""A fleet as the frame that dense windows, and pytorch-forecasting, read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fleetcast.contract.vocabulary import STATES, UNKNOWN
from fleetcast.windows.arrays import FleetArrays
from fleetcast.windows.calendar import calendar_features
from fleetcast.windows.spec import PLAIN_CALENDAR


def fleet_frame(fleet: FleetArrays, calendar: Sequence[str] = PLAIN_CALENDAR) -> pd.DataFrame:
    """One row a server and step: `server`, `profile`, `state`, `time_idx`, the metrics and the calendar.

    `time_idx` counts the fleet's steps from 0. Missing values are NaN; calendar and state are there all the same.
    """
    servers, steps = fleet.values.shape[:2]
    owner = np.repeat(np.arange(servers), steps)
    profiles, profile = np.unique(np.array(fleet.profiles, dtype=object), return_inverse=True)
    frame = pd.DataFrame(
        {
            "server": pd.Categorical.from_codes(owner, pd.Index(fleet.servers)),
            "profile": pd.Categorical.from_codes(profile[owner], pd.Index(profiles)),
            "state": pd.Categorical.from_codes(fleet.states().reshape(-1), pd.Index([UNKNOWN, *STATES])),
            "time_idx": np.tile(np.arange(steps), servers),
        }
    )
    for column, name in enumerate(fleet.metrics):
        frame[name] = fleet.values[:, :, column].reshape(-1)
    known = calendar_features(fleet.timestamps, fleet.timezone, calendar)
    for column, name in enumerate(calendar):
        frame[name] = np.tile(known[:, column], servers)
    return frame
