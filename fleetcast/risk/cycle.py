"""One origin of a fleet that is watched: its risks, with levels that do not flap from one origin to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.assess import Risk, assess
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.hysteresis import FLAP_STEPS, HOLD_STEPS, Held
from fleetcast.risk.incidents import open_now
from fleetcast.risk.levels import LEVELS
from fleetcast.risk.limits import server_limits
from fleetcast.risk.model import RiskModel
from fleetcast.windows.arrays import FleetArrays

CALM = len(LEVELS) - 1
NEW, NEVER = -2, -1  # in the place of the level that a server left last: it was not there before; it left none yet
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Watch:
    """What is kept of a fleet from one origin to the next: the levels held, and how often they flapped.

    Servers may come and go: a new one starts at P4, one that is missing for an origin starts anew. `before` is the
    level that each server left last, `since` the origins since then; `flapped` and `watched` count flaps and servers x
    origins.
    """

    servers: tuple[str, ...] = ()
    held: Held = field(default_factory=lambda: Held.start(0))
    before: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    since: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    flapped: int = 0
    watched: int = 0

    @property
    def flaps_per_server_day(self) -> float | None:
        """Levels that were left and taken again within an hour, a server and day of origins; None before the first."""
        return STEPS_PER_DAY * self.flapped / self.watched if self.watched else None

    def step(self, risks: Sequence[Risk]) -> tuple[list[Risk], Watch]:
        """The risks of the next origin with the levels that are held, and what is kept for the one after."""
        old = self._of(tuple(risk.server for risk in risks))
        p_30m, p_8h = (_numbers([getattr(risk, name) for risk in risks]) for name in ("p_30m", "p_8h"))
        held = old.held.step(p_30m, p_8h, np.array([risk.open for risk in risks], dtype=bool))
        changed = held.levels != old.held.levels
        since = old.since + 1
        flapped = changed & (held.levels == old.before) & (since <= FLAP_STEPS)
        kept = replace(
            old,
            held=held,
            before=np.where(old.before == NEW, NEVER, np.where(changed, old.held.levels, old.before)),
            since=np.where(changed, 0, since),
            flapped=old.flapped + int(flapped.sum()),
            watched=old.watched + len(risks),
        )
        named = zip(risks, held.levels, strict=True)
        return [risk.model_copy(update={"level": LEVELS[code]}) for risk, code in named], kept

    def _of(self, servers: tuple[str, ...]) -> Watch:
        """The same for these servers, in this order."""
        if servers == self.servers:
            return self
        places = {name: place for place, name in enumerate(self.servers)}
        rows = np.array([places.get(name, len(places)) for name in servers], dtype=np.int64)
        levels, before, since = (
            np.append(one, fresh)[rows]
            for one, fresh in ((self.held.levels, CALM), (self.before, NEW), (self.since, FLAP_STEPS))
        )
        recent = np.concatenate([self.held.recent, np.full((1, HOLD_STEPS), CALM)])[rows]
        return replace(self, servers=servers, held=Held(levels, recent), before=before, since=since)


def watch(
    fleet: FleetArrays,
    forecast: ForecastArrays,
    kept: Watch,
    calibration: Calibration | None = None,
    model: RiskModel | None = None,
    topology: pa.Table | None = None,
) -> tuple[list[Risk], Watch]:
    """The risk of every server of a forecast, and what to hand in at the next origin.

    Args:
        fleet: samples of the forecast's servers in its order, on a time axis that ends at the origin.
        forecast: quantiles of servers and metrics.
        kept: what the origin before returned; `Watch()` at the first.
        calibration: lines and the rest of the model's manifest.
        model: the fitted risk model of the bundle.
        topology: who depends on whom (schema `TOPOLOGY`), where known.
    """
    limits = server_limits(fleet, forecast.metrics)
    opened = open_now(fleet, forecast.metrics, limits)
    return kept.step(assess(forecast, opened, calibration, model, fleet, limits, topology))


def _numbers(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
