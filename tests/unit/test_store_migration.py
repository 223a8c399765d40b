"""A database of an earlier release is migrated with everything in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from fleetcast.clock import RealClock
from fleetcast.remediation.engine import RemediationEngine
from fleetcast.remediation.plan import content_hash
from fleetcast.settings import RemediationSettings
from fleetcast.store.audit import list_audit, verify
from fleetcast.store.engine import open_store
from tests import postgres

AT = "2026-01-05 09:00:00.000000"
OLD_PLAN = {
    "alert_id": 1, "server": "db1", "profile": "database", "metric": "cpu_iowait", "level": "P2",
    "playbook": "database", "title": "Relieve a database server", "integration": "database management API",
    "steps": [
        {
            "name": "limit connections", "integration": "database management API", "action": "limit_pool",
            "detail": "lower the connection pool limit of db1", "done": "lowered the connection pool limit of db1",
            "seconds": 60, "destructive": False,
        }
    ],
    "estimated_s": 60, "approval": "engineer", "approver_role": "engineer", "automatic": False,
    "expected_effect": "it falls", "rollback": "restore", "blast_radius": {"servers": 1, "share_of_profile": 0.25},
    "dry_run": True, "created_at": "2026-01-05T09:00:00Z", "expires_at": "2026-01-05T11:00:00Z",
}  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database of revision 0004 with an alert, three plans, an execution and an audit trail."""
    if request.param == "sqlite":
        yield _filled(f"sqlite:///{tmp_path}/old.db")
        return
    with postgres.server() as url:
        yield _filled(url)


def _filled(url: str) -> str:
    config = Config()
    config.set_main_option("script_location", "fleetcast.store:migrations")
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004_forecast_cycles")
        content = json.dumps(OLD_PLAN, sort_keys=True, separators=(",", ":"))
        values = {"at": AT, "hash": content_hash(content), "content": content, "no": False}
        for statement in (
            "INSERT INTO alerts (id, key, server, profile, metric, level, state, score, cycles_at_level, cycles_below,"
            " first_seen_at, updated_at, dependent, message, escalated_steps) VALUES"
            " (1, 'db1/x', 'db1', 'database', 'x', 'P2', 'open', 75, 1, 0, :at, :at, :no, '', 0)",
            "INSERT INTO plans (id, hash, content, alert_id, status, created_at, expires_at, executed_by, executed_at)"
            " VALUES (1, :hash, :content, 1, 'expired', :at, :at, NULL, NULL),"
            " (2, :hash, :content, 1, 'executed', :at, :at, 'ann', :at)",
            'INSERT INTO approvals (id, plan_id, plan_hash, "by", role, at) VALUES'
            " (1, 2, :hash, 'ann', 'engineer', :at)",
            'INSERT INTO executions (action_id, plan_id, step, "by", started_at, finished_at, result) VALUES'
            " ('a', 2, 0, 'ann', :at, :at, 'would have lowered it')",
            "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES"
            " (1, :at, 'ann', 'create key', 'ann', ''), (3, :at, 'ann', 'execute plan', '2', '')",
        ):
            connection.execute(text(statement), values)
    engine.dispose()
    return url


def test_a_database_of_schema_0004_keeps_its_plans_and_its_trail_becomes_a_chain(old: str) -> None:
    store = open_store(old)
    with store.session() as session:
        assert verify(session).entries == 2
        assert [(one.id, one.actor, one.action) for one in list_audit(session)] == [
            (3, "ann", "execute plan"),
            (1, "ann", "create key"),
        ]
        assert list_audit(session)[0].at == datetime(2026, 1, 5, 9, tzinfo=UTC)
    newest, expired = RemediationEngine(store, RealClock(), RemediationSettings()).list_plans()
    assert (newest.status, newest.executed_by, newest.approved_by, newest.mode) == ("executed", "ann", "ann", "dry_run")
    assert [step.wording for step in newest.steps] == ["would have lowered it"]
    assert (newest.profile, newest.requested_by, expired.status) == ("database", "policy", "expired")
    store.close()
    open_store(old).close()
