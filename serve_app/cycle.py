"""One forecast cycle: history, forecasts, risks, what is stored and who is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import pyarrow as pa

from fleetcast.alerting.correlation import METRICS, STEPS, Correlator
from fleetcast.clock import Clock
from fleetcast.errors import LeaseLostError, StoreError
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.assess import Risk
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.cycle import Watch, watch
from fleetcast.risk.model import RiskModel
from fleetcast.store.engine import Store
from fleetcast.store.leases import Lease
from fleetcast.windows.arrays import FleetArrays
from serve_app.archive import Archive
from serve_app.arguments import AppArgs
from serve_app.drift import Drift
from serve_app.forecaster import ModelDescription
from serve_app.handles import Handle
from serve_app.schemas import ModelName
from serve_app.sharding import Sharding, in_words
from serve_app.snapshot import Snapshot, for_model, take_snapshot
from serve_app.tally import Tally
from serve_app.telemetry import Telemetry

logger = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Found:
    """What a cycle found, what went wrong, how many calls to a forecaster were made again, and the last samples."""

    snapshot: Snapshot | None
    problems: list[str]
    retried: int = 0
    now: FleetArrays | None = None


class FleetCycle:
    """Runs cycles one after the other, each under the lease that it is given, and keeps what goes from one to the next.

    Under a new lease it goes on with what the last holder stored.
    """

    def __init__(
        self,
        args: AppArgs,
        store: Store,
        clock: Clock,
        history: Handle,
        forecaster: Handle,
        alerts: Handle,
        remediation: Handle,
        topology: pa.Table | None,
        telemetry: Telemetry,
    ) -> None:
        self._clock, self._history, self._alerts, self._remediation = clock, history, alerts, remediation
        self._archive = Archive(store, args.forecasts, args.service)
        self._drift = None if args.forecasts is None else Drift(store, args.forecasts, args.metrics.minutes)
        self._telemetry = telemetry
        self._sharding = Sharding(forecaster, args.service.shard_servers, Tally(telemetry.told))
        self._topology, self._kept = topology, Watch()
        self._fence = 0
        self._absent: list[str] = []
        self._tidying: asyncio.Task[None] | None = None

    @property
    def flaps_per_server_day(self) -> float | None:
        """Levels left and taken again within an hour, a server and day; None before the first cycle."""
        return self._kept.flaps_per_server_day

    async def run(self, origin: datetime, lease: Lease, model: ModelDescription) -> Found:
        """One cycle by one model. Raises `LeaseLostError` when another watcher has taken over."""
        if lease.fence != self._fence:
            await self._take_over(origin)
            self._fence = lease.fence
        seen: FleetArrays = await self._history.window.remote(origin, model.history_steps)
        if not seen.servers:
            return Found(None, ["no samples yet: send them to POST /v1/samples"])
        self._say_what_is_absent(seen, model)
        fleet = await asyncio.to_thread(for_model, seen, model.info.targets, model.timezone)
        found = await self._sharding.forecast(fleet, origin, model.info)
        risks, kept = await asyncio.to_thread(_assess, fleet, found.forecast, model, self._kept, self._topology)
        snapshot = await asyncio.to_thread(_snapshot, fleet, found.forecast, risks, model)
        problems = found.problems + await self._store(snapshot, kept, model, lease)
        self._kept = kept
        problems += await self._hand_over(fleet, risks, lease)
        return Found(snapshot, problems, found.retried, fleet.slice(fleet.steps - 1, fleet.steps))

    def tidy(self, lease: Lease, found: Found) -> None:
        """In the background, unless that goes on already: compare earlier forecasts with what came, delete old ones."""
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(asyncio.to_thread(self._tidy, lease, found.now))

    def _say_what_is_absent(self, fleet: FleetArrays, model: ModelDescription) -> None:
        """Log which targets nobody sends, when that has changed: they have no forecast, the others have theirs."""
        absent = [name for name in model.info.targets if name not in fleet.metrics]
        if absent and absent != self._absent:
            logger.warning("no server sends %s: there is no forecast of that", ", ".join(absent))
        self._absent = absent

    async def _take_over(self, origin: datetime) -> None:
        """Go on where the last holder of the lease stopped."""
        self._kept = await asyncio.to_thread(self._archive.recall, origin)
        await asyncio.to_thread(self._archive.sweep)

    def _tidy(self, lease: Lease, now: FleetArrays | None) -> None:
        try:
            if self._drift is not None and now is not None:
                self._telemetry.matured(self._drift.score(now))
        except Exception:
            logger.exception("earlier forecasts were not compared with what came; the next cycle tries again")
        try:
            self._archive.tidy(lease, self._clock.now())
        except Exception:
            logger.exception("stored forecasts were not tidied; the next cycle tries again")

    async def _store(self, snapshot: Snapshot, kept: Watch, model: ModelDescription, lease: Lease) -> list[str]:
        """Store the forecasts and risks; returns what went wrong. Raises `LeaseLostError`."""
        save = self._archive.save
        try:
            return await asyncio.to_thread(save, lease, snapshot.forecast, snapshot.risks, kept, model.info)
        except LeaseLostError:
            raise
        except StoreError as error:
            logger.warning("forecasts and risks are not stored: %s", error)
            return [f"forecasts and risks are not stored: {error}"]

    async def _hand_over(self, fleet: FleetArrays, risks: Sequence[Risk], lease: Lease) -> list[str]:
        """Give the risks to alerts, and the open alerts to remediation; returns what went wrong.

        Raises `LeaseLostError`.
        """
        planned = fleet.maintenance_mask(fleet.steps - 1, fleet.steps)[:, 0]
        maintenance = frozenset(name for name, held in zip(fleet.servers, planned, strict=True) if held)
        profiles = dict(zip(fleet.servers, fleet.profiles, strict=True))
        try:
            now, correlator = self._clock.now(), _correlator(fleet, risks)
            opened = await self._alerts.observe.remote(risks, now, maintenance, lease, correlator)
            await self._remediation.propose.remote(opened, profiles)
        except LeaseLostError:
            raise
        except Exception as error:
            logger.exception("alerts or remediation failed")
            return [f"alerts or remediation failed: {in_words(error)}"]
        return []


def _correlator(fleet: FleetArrays, risks: Sequence[Risk]) -> Correlator | None:
    """The last hours of all servers, in a cycle in which an incident may open."""
    if all(risk.level == "P4" for risk in risks):
        return None
    columns = [column for column, name in enumerate(fleet.metrics) if name in METRICS]
    columns = [column for column in columns if not np.isnan(fleet.values[:, -STEPS:, column]).all()]
    if not columns:
        return None
    return Correlator(fleet.servers, fleet.values[:, -STEPS:, columns].transpose(2, 0, 1))


def _assess(
    fleet: FleetArrays, forecast: ForecastArrays, model: ModelDescription, kept: Watch, topology: pa.Table | None
) -> tuple[list[Risk], Watch]:
    fitted = None if model.risk is None else _fitted(model.risk)
    return watch(fleet, forecast, kept, _calibration(model), fitted, topology)


def _snapshot(fleet: FleetArrays, forecast: ForecastArrays, risks: Sequence[Risk], model: ModelDescription) -> Snapshot:
    name = ModelName(run=model.info.run, digest=model.info.digest)
    return take_snapshot(fleet, forecast, risks, name, _calibration(model))


def _calibration(model: ModelDescription) -> Calibration | None:
    return None if model.calibration is None else Calibration.model_validate(model.calibration)


@lru_cache(maxsize=2)
def _fitted(text: str) -> RiskModel:
    """The risk model of a text, read once."""
    return RiskModel.loads(text)
