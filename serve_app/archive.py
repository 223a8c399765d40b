"""Keeps what cycles found: a Parquet part a cycle, the risks in the database, each only by whoever holds the lease."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.storage import Storage
from fleetcast.errors import DatasetError
from fleetcast.forecast.part import of_steps, part_table
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.assess import Risk
from fleetcast.risk.cycle import Watch
from fleetcast.risk.hysteresis import FLAP_STEPS
from fleetcast.risk.risk_table import risk_table, watch_of
from fleetcast.settings import ServiceSettings
from fleetcast.store.engine import Store
from fleetcast.store.forecasts import (
    StoredCycle,
    delete_cycles_before,
    exchange_file,
    named_files,
    risks_between,
    save_cycle,
    whole_before,
)
from fleetcast.store.leases import Lease
from fleetcast.store.samples import pack, unpack
from serve_app.schemas import ModelInfo

logger = logging.getLogger("ray.serve")

GROUP_ROWS = 1 << 16
THINNED_AT_ONCE = 8


class Archive:
    """Writes cycles down and keeps them small: all steps for a time, then chosen horizons, then nothing."""

    def __init__(self, store: Store, location: str | None, service: ServiceSettings) -> None:
        self._store, self._service = store, service
        self._folder = None if location is None else Storage(location)
        if self._folder is not None:
            self._folder.create()

    def save(
        self, lease: Lease, forecast: ForecastArrays, risks: Sequence[Risk], kept: Watch, model: ModelInfo
    ) -> list[str]:
        """Keep a cycle; returns what went wrong with the forecasts, without which the risks are still kept.

        Raises `LeaseLostError` (nothing is kept) and `StoreError`.
        """
        file, problems = None, []
        try:
            file = self._write(forecast, lease, model)
        except DatasetError as error:
            problems = [f"the forecasts are not stored: {error}"]
        origin = int(forecast.origin.timestamp())
        cycle = StoredCycle(origin, model.run, model.digest, len(forecast.servers), file, True)
        payload = pack(risk_table(risks, kept, forecast.origin))
        try:
            with self._store.session() as session:
                replaced = save_cycle(session, lease, cycle, payload)
        except Exception:
            self._delete([file])
            raise
        self._delete([replaced])
        return problems

    def recall(self, origin: datetime) -> Watch:
        """What was kept of the last hour before an origin, to go on from; empty when there is nothing."""
        until = int(origin.timestamp()) - STEP_SECONDS
        with self._store.reading() as session:
            for _, payload in risks_between(session, until - (FLAP_STEPS - 1) * STEP_SECONDS, until):
                return watch_of(unpack(payload))
        return Watch()

    def sweep(self) -> None:
        """Delete the files that no cycle names: what a crash left. Only for whoever holds the lease."""
        if self._folder is None:
            return
        with self._store.reading() as session:
            named = named_files(session)
        self._delete([name for name in self._folder.names() if name not in named])

    def tidy(self, lease: Lease, now: datetime) -> None:
        """Thin out some forecasts that are due and delete what is too old.

        Raises `LeaseLostError`, `DatasetError` and `StoreError`.
        """
        with self._store.session() as session:
            old = delete_cycles_before(session, lease, _seconds(now - timedelta(hours=self._service.forecast_hours)))
        self._delete(old)
        before = _seconds(now - timedelta(hours=self._service.forecast_whole_hours))
        with self._store.reading() as session:
            due = whole_before(session, before, THINNED_AT_ONCE)
        for cycle in due:
            thinned = self._thinned(cycle, lease)
            with self._store.session() as session:
                exchange_file(session, lease, cycle, thinned)
            self._delete([cycle.file])

    def _write(self, forecast: ForecastArrays, lease: Lease, model: ModelInfo) -> str | None:
        if self._folder is None:
            return None
        name = _file_name(int(forecast.origin.timestamp()), lease)
        self._folder.write_table(name, part_table(forecast, model.run, model.digest), GROUP_ROWS)
        return name

    def _thinned(self, cycle: StoredCycle, lease: Lease) -> str | None:
        """Name of a new file with the chosen horizons of a cycle; None where its file is lost."""
        assert self._folder is not None
        assert cycle.file is not None
        steps = [minutes * 60 // STEP_SECONDS for minutes in self._service.forecast_minutes]
        try:
            table = self._folder.read_table(cycle.file).replace_schema_metadata(self._folder.read_metadata(cycle.file))
        except DatasetError as error:
            logger.warning("a stored forecast is lost: %s", error)
            return None
        name = _file_name(cycle.origin, lease)
        self._folder.write_table(name, of_steps(table, steps), GROUP_ROWS)
        return name

    def _delete(self, names: Sequence[str | None]) -> None:
        for name in names:
            if name is not None and self._folder is not None:
                self._folder.delete(name)


def _file_name(origin: int, lease: Lease) -> str:
    moment = datetime.fromtimestamp(origin, UTC)
    return f"{moment:%Y%m%dT%H%MZ}-{lease.fence}-{uuid.uuid4().hex[:8]}.parquet"


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
