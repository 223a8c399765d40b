"""What one forecast cycle found: the thing that all reading routes read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from fleetcast.contract.metrics import in_contract_order
from fleetcast.contract.states import RECOVERY_STEPS
from fleetcast.contract.vocabulary import state_names
from fleetcast.forecast.table import NONE, ForecastArrays
from fleetcast.risk.assess import Risk
from fleetcast.risk.calibration import Calibration
from fleetcast.windows.arrays import FleetArrays
from serve_app.schemas import LevelChange, ModelInfo, ModelName


@dataclass(frozen=True)
class Snapshot:
    """Forecast, risks, states and newest values of the whole fleet at one origin; servers in one order throughout.

    `latest` is [server, metric] in contract units, the last value of each metric up to the origin (NaN where there is
    none); `last_samples` Unix seconds, -1 for none; `calibration` is that of the model.
    """

    origin: datetime
    model: ModelName
    forecast: ForecastArrays
    risks: tuple[Risk, ...]
    states: tuple[str, ...]
    metrics: tuple[str, ...]
    latest: npt.NDArray[np.float32]
    last_samples: npt.NDArray[np.int64]
    calibration: Calibration | None = None

    def row_of(self, server: str) -> int | None:
        """Position of a server, None when the cycle did not see it."""
        return self.forecast.servers.index(server) if server in self.forecast.servers else None

    def by_source(self) -> Counter[str]:
        """Number of servers by the source of their forecast."""
        return Counter(self.forecast.sources)


def take_snapshot(
    fleet: FleetArrays,
    forecast: ForecastArrays,
    risks: Sequence[Risk],
    model: ModelName,
    calibration: Calibration | None = None,
) -> Snapshot:
    """Put together what a cycle found; the time axis of `fleet` ends at the origin."""
    recent = fleet.slice(fleet.steps - RECOVERY_STEPS - 1, fleet.steps)
    seen = np.isfinite(fleet.values)
    positions = _last_true(seen)
    latest = np.take_along_axis(fleet.values, np.maximum(positions, 0)[:, None, :], axis=1)[:, 0]
    last = _last_true(np.asarray(seen.any(axis=2)))
    return Snapshot(
        origin=forecast.origin,
        model=model,
        forecast=forecast,
        risks=tuple(risks),
        states=tuple(str(word) for word in state_names(recent.states()[:, -1])),
        metrics=fleet.metrics,
        latest=latest,
        last_samples=np.where(last >= 0, fleet.timestamps[np.maximum(last, 0)], -1),
        calibration=calibration,
    )


def without_forecast(fleet: FleetArrays, origin: datetime, model: ModelInfo, reason: str) -> ForecastArrays:
    """The forecast of servers that could not be forecast: source `none` with the reason."""
    count = len(fleet.servers)
    shape = (count, len(model.targets), model.horizon, len(model.levels))
    return ForecastArrays(
        servers=fleet.servers,
        profiles=fleet.profiles,
        metrics=tuple(model.targets),
        levels=tuple(model.levels),
        origin=origin,
        quantiles=np.full(shape, np.nan, np.float32),
        sources=(NONE,) * count,
        reasons=(reason,) * count,
    )


def level_changes(before: Snapshot | None, after: Snapshot) -> list[LevelChange]:
    """The servers whose level is not what it was; all of them after the first cycle."""
    levels = {} if before is None else {risk.server: risk.level for risk in before.risks}
    return [
        LevelChange(server=risk.server, level=risk.level, score=risk.score)
        for risk in after.risks
        if levels.get(risk.server) != risk.level
    ]


def for_model(fleet: FleetArrays, targets: Sequence[str], timezone: str) -> FleetArrays:
    """The same fleet as a model reads it: in its calendar's time zone, and with all of its targets.

    A target that no server has sent is missing everywhere.
    """
    metrics = in_contract_order({*fleet.metrics, *targets})
    values = fleet.values if metrics == fleet.metrics else fleet.select(metrics)
    return replace(fleet, timezone=timezone, metrics=metrics, values=values)


def _last_true(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Position of the last true value along axis 1; -1 where there is none."""
    length = flags.shape[1]
    found = length - 1 - np.argmax(flags[:, ::-1], axis=1)
    return np.where(flags.any(axis=1), found, -1)
