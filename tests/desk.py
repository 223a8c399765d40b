"""Remediation at a desk: a database with an alert, a clock that tests set, plans and who carries them out."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.routing import Routing
from fleetcast.remediation.build import build_runner
from fleetcast.remediation.engine import RemediationEngine
from fleetcast.remediation.fleet import Surroundings
from fleetcast.remediation.runner import Runner
from fleetcast.remediation.views import PlanView
from fleetcast.risk.assess import Risk
from fleetcast.settings import AlertSettings, HttpTarget, RemediationSettings
from fleetcast.store.audit import list_audit
from fleetcast.store.engine import Store, open_store

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
FLEET = {"db1": "database", "db2": "database", "db3": "database", "db4": "database", "web1": "web_api"}
FLEET |= {"ml1": "ml_compute", "ml2": "ml_compute"}
SHARED = Path("/dev/shm")
P_30M = {"P1": 0.9, "P2": 0.6, "P3": 0.1, "P4": 0.0}


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        open_store(f"sqlite:///{folder}/new.db").close()
        with sqlite3.connect(f"{folder}/new.db") as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(folder, "new.db").read_bytes()


@contextmanager
def new_store() -> Iterator[Store]:
    """An empty database in memory that processes share (where there is such); the schema is made once for all."""
    with tempfile.TemporaryDirectory(dir=SHARED if SHARED.is_dir() else None) as folder:
        Path(folder, "fleetcast.db").write_bytes(_migrated())
        store = open_store(f"sqlite:///{folder}/fleetcast.db")
        yield store
        store.close()


@dataclass
class Hands:
    """A clock that shows what it is set to."""

    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    def sleep_seconds(self, until: datetime) -> float:
        return 0.0

    def on(self, **span: float) -> None:
        """Set it forward."""
        self.time += timedelta(**span)


@dataclass
class Desk:
    """Engine and runner on one database."""

    store: Store
    settings: RemediationSettings = field(default_factory=RemediationSettings)
    clock: Hands = field(default_factory=Hands)
    observed_at: datetime | None = None
    fleet: FleetMap = field(default_factory=FleetMap)
    resolve_after_cycles: int = 1

    @property
    def engine(self) -> RemediationEngine:
        return RemediationEngine(self.store, self.clock, self.settings)

    @property
    def runner(self) -> Runner:
        return build_runner(self.store, self.clock, self.settings)

    def alert(self, server: str = "db1", level: str = "P2", score: float = 75.0, open_: bool = False) -> int:
        """Let a risk be seen now, or a second later when something was; the id of the alert of the server."""
        if self.clock.now() == self.observed_at:
            self.clock.on(seconds=1)
        self.observed_at = self.clock.now()
        risk = Risk(
            server=server, profile=FLEET.get(server, server), origin=self.clock.now(), p_30m=P_30M[level], p_2h=0.9,
            p_8h=0.95, open=open_, level=level, score=score, metric="cpu_iowait",
            metric_probabilities={"cpu_iowait": 0.95}, breach_s=None, breach_low_s=None, breach_high_s=None,
            source="model", reason="",
        )  # fmt: skip
        self.alerts.observe([risk], self.clock.now())
        return next(one.id for one in self.alerts.list_alerts() if one.server == server)

    @property
    def alerts(self) -> AlertEngine:
        rules = AlertSettings(open_after_cycles=1, resolve_after_cycles=self.resolve_after_cycles, shadow=True)
        return AlertEngine(self.store, rules, Routing.default(), self.fleet)

    def proposed(self, server: str = "db1", level: str = "P2", score: float = 75.0) -> PlanView:
        plan = self.engine.propose(self.alert(server, level, score), Surroundings(FLEET))
        assert plan is not None
        return plan

    def approved(self, server: str = "db1", level: str = "P2") -> PlanView:
        plan = self.proposed(server, level)
        return plan if plan.automatic else self.engine.approve(plan.id, plan.hash, "ann", {"approve", "admin"})

    def audited(self, word: str) -> list[str]:
        """Who did what begins with a word, oldest first."""
        with self.store.reading() as session:
            return [one.actor for one in reversed(list_audit(session)) if one.action.startswith(word)]


def live(targets: Mapping[str, HttpTarget], **fields: Any) -> RemediationSettings:
    """Settings that let plans act on these targets, with nothing held out and time enough to beat."""
    return RemediationSettings(
        **{"mode": "live", "targets": dict(targets), "holdout_share": 0.0, "takeover_s": 10.0, **fields}
    )
