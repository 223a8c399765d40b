"""What the forecast would have been, had a metric been otherwise: the forecaster run again on edited samples.

The samples are edited, in contract units, before windows are built; so all that follows from them, the untrained base,
scales, states and peaks, follows the edit too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from fleetcast.contract.metrics import metric as contract_metric
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR
from fleetcast.errors import UsageError
from fleetcast.forecast.edits import Edit, Shift, apply_edits
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.forecast.table import ForecastArrays
from fleetcast.windows.arrays import FleetArrays

Floats = npt.NDArray[np.float32]

LEADS = (6, 24, 96)  # 30 min, 2 h, 8 h


class Change(BaseModel):
    """A target's quantiles at one lead, as they are and as they would have been, in `unit`, by the model's levels."""

    model_config = ConfigDict(frozen=True)

    target: str
    unit: str = Field(description='UCUM; "1" is a ratio')
    lead: int = Field(description="steps of 5 minutes after the origin")
    time: datetime = Field(description="UTC")
    before: tuple[float, ...]
    after: tuple[float, ...]
    difference: tuple[float, ...] = Field(description="after - before")


class Counterfactual(BaseModel):
    """A server's forecast with edited samples beside the one without.

    `edited` counts the samples that were changed. A target without a forecast has no changes.
    """

    model_config = ConfigDict(frozen=True)

    server: str
    origin: datetime
    source: str = Field(description="what made the forecast: model, fallback or none")
    reason: str
    edits: tuple[Edit, ...]
    edited: int
    levels: tuple[float, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Reforecast:
    """One server's forecast, and those of its edited histories.

    `quantiles` is float32 [case, target, step, level] in contract units; `edited` counts the changed samples by case.
    """

    forecast: ForecastArrays
    quantiles: Floats
    edited: tuple[int, ...]


def counterfactual(
    forecaster: Forecaster,
    fleet: FleetArrays,
    server: str,
    origin: datetime,
    edits: Sequence[Edit],
    leads: Sequence[int] = LEADS,
) -> Counterfactual:
    """The change of each target's quantiles at `leads` (steps, those within the horizon), had `edits` been so.

    An edit that changes no sample gives a difference of exactly 0. Raises `UsageError` for an unknown server, an edit
    after the origin (see `apply_edits`) or leads of which none lies within the horizon.
    """
    found = reforecast(forecaster, fleet, server, origin, [edits])
    base, within = found.forecast, [lead for lead in leads if 1 <= lead <= found.forecast.horizon]
    if not within:
        raise UsageError(f"leads {list(leads)}: none is within the horizon of 1 to {base.horizon} steps")
    changes = [
        _change(target, lead, origin, base.quantiles[0, column, lead - 1], found.quantiles[0, column, lead - 1])
        for column, target in enumerate(base.metrics)
        if math.isfinite(base.quantiles[0, column, 0, 0])
        for lead in within
    ]
    return Counterfactual(
        server=server,
        origin=origin,
        source=base.sources[0],
        reason=base.reasons[0],
        edits=tuple(edits),
        edited=found.edited[0],
        levels=base.levels,
        changes=tuple(changes),
    )


def reforecast(
    forecaster: Forecaster, fleet: FleetArrays, server: str, origin: datetime, cases: Sequence[Sequence[Edit]]
) -> Reforecast:
    """Forecast a server as it is and once for each case's edits, all in one batch.

    Raises `UsageError` for an unknown server or an edit that cannot be made.
    """
    history = forecaster.history(one_server(fleet, server), origin)
    edited = [apply_edits(history, edits, origin) for edits in cases]
    counts = [int((~_same(values, history.values)).sum()) for values in edited]
    changed = [case for case, count in enumerate(counts) if count]
    copies = _copies(history, np.concatenate([history.values, *(edited[case] for case in changed)]))
    found = forecaster.forecast(copies, origin)
    place = {case: row for row, case in enumerate(changed, start=1)}
    rows = [place.get(case, 0) for case in range(len(cases))]  # the same samples have the same forecast
    forecast = replace(found.of_servers([0]), servers=(server,))
    return Reforecast(forecast, found.quantiles[rows], tuple(counts))


def one_server(fleet: FleetArrays, server: str) -> FleetArrays:
    """The fleet of this server alone. Raises `UsageError` when there is none of that name."""
    if server not in fleet.servers:
        raise UsageError(f"no server {server!r} among the {len(fleet.servers)}: {', '.join(fleet.servers[:5])}, ...")
    return fleet.of_servers([fleet.servers.index(server)])


def recent(metric: str, origin: datetime, hours: float, to: str | float | Shift) -> Edit:
    """The edit of a metric's last `hours` up to the origin."""
    steps = max(round(hours * STEPS_PER_HOUR), 1)
    first = origin - timedelta(seconds=STEP_SECONDS * (steps - 1))
    return Edit.model_validate({"metric": metric, "first": first, "last": origin, "to": to})


def _copies(history: FleetArrays, values: Floats) -> FleetArrays:
    """One server's history several times under names of their own, each with its planned maintenance."""
    names = tuple(f"{history.servers[0]}#{number}" for number in range(len(values)))
    planned = history.maintenance.filter(pc.equal(history.maintenance["server"], history.servers[0]))
    column = planned.schema.get_field_index("server")
    maintenance = pa.concat_tables(
        planned.set_column(column, planned.schema.field(column), pa.array([name] * planned.num_rows, pa.string()))
        for name in names
    )
    profiles = history.profiles * len(values)
    return replace(history, servers=names, profiles=profiles, values=values, maintenance=maintenance)


def _same(left: Floats, right: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def _change(target: str, lead: int, origin: datetime, before: Floats, after: Floats) -> Change:
    return Change(
        target=target,
        unit=contract_metric(target).unit,
        lead=lead,
        time=origin + timedelta(seconds=STEP_SECONDS * lead),
        before=tuple(before.tolist()),
        after=tuple(after.tolist()),
        difference=tuple((after.astype(np.float64) - before).tolist()),
    )
