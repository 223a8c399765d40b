"""Executions that can be taken back, limits, effects, and the audit trail as a chain of hashes.

The hash of an entry is worked out here as it was when this revision was written.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from fleetcast.errors import StoreError

revision = "0006_remediation"
down_revision = "0005_incidents"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
IN_FORCE = "status IN ('proposed', 'approved', 'executing', 'verifying', 'rolling_back')"


def upgrade() -> None:
    """Make the tables, complete plans and executions, chain the audit trail."""
    _plans()
    _executions()
    _new_tables()
    _audit()


def downgrade() -> None:
    """Refuse with `StoreError`: the older schema has no room for what was carried out."""
    raise StoreError("executions cannot be moved back into the older tables: restore a backup of the database")


def _plans() -> None:
    op.add_column("plans", sa.Column("profile", sa.Text(), nullable=False, server_default=""))
    op.add_column("plans", sa.Column("mode", sa.Text(), nullable=False, server_default="dry_run"))
    op.add_column("plans", sa.Column("requested_by", sa.Text(), nullable=False, server_default="policy"))
    for name in ("started_at", "verify_by", "ended_at"):
        op.add_column("plans", sa.Column(name, TIME, nullable=True))
    op.add_column("plans", sa.Column("reason", sa.Text(), nullable=True))
    connection = op.get_bind()
    for number, content in connection.execute(sa.text("SELECT id, content FROM plans")).all():
        profile = json.loads(content)["profile"]
        connection.execute(
            sa.text("UPDATE plans SET profile = :profile WHERE id = :id"), {"profile": profile, "id": number}
        )
    # Plans that waited were made by the older playbooks; new ones are proposed for the alerts that are still live.
    connection.execute(sa.text("UPDATE plans SET status = 'expired' WHERE status IN ('proposed', 'approved')"))
    connection.execute(sa.text("UPDATE plans SET ended_at = executed_at WHERE status = 'executed'"))
    op.drop_index("uq_plans_alert_id_in_force", "plans")  # an incident that comes back has a plan again
    where = sa.text(IN_FORCE)
    op.create_index(
        "uq_plans_alert_id_in_force", "plans", ["alert_id"], unique=True, sqlite_where=where, postgresql_where=where
    )
    op.add_column("approvals", sa.Column("expires_at", TIME, nullable=True))
    connection.execute(
        sa.text("UPDATE approvals SET expires_at = (SELECT expires_at FROM plans WHERE plans.id = approvals.plan_id)")
    )
    with op.batch_alter_table("approvals") as batch:
        batch.alter_column("expires_at", existing_type=TIME, nullable=False)


def _executions() -> None:
    op.add_column("executions", sa.Column("kind", sa.Text(), nullable=False, server_default="step"))
    op.add_column("executions", sa.Column("server", sa.Text(), nullable=True))
    op.add_column("executions", sa.Column("outcome", sa.Text(), nullable=True))
    op.get_bind().execute(sa.text("UPDATE executions SET outcome = 'done' WHERE finished_at IS NOT NULL"))
    with op.batch_alter_table("executions") as batch:
        batch.drop_constraint("uq_executions_plan_id_step", type_="unique")
        batch.create_unique_constraint("uq_executions_plan_id_kind_step", ["plan_id", "kind", "step"])
    op.create_index("ix_executions_started_at", "executions", ["started_at"])


def _new_tables() -> None:
    control = op.create_table(
        "remediation_control",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("stopped_by", sa.Text(), nullable=True),
        sa.Column("stopped_at", TIME, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_remediation_control"),
    )
    op.get_bind().execute(sa.insert(control), {"id": 1, "failures": 0})
    op.create_table(
        "effects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("playbook", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Integer(), nullable=True),
        sa.Column("cases", sa.Integer(), nullable=False),
        sa.Column("incidents", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name="fk_effects_alert_id"),
        sa.PrimaryKeyConstraint("id", name="pk_effects"),
        sa.UniqueConstraint("alert_id", name="uq_effects_alert_id"),
    )
    op.create_index("ix_effects_playbook", "effects", ["playbook"])
    op.create_table(
        "simulated_actions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("action_id", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_simulated_actions"),
        sa.UniqueConstraint("action_id", name="uq_simulated_actions_action_id"),
    )


def _audit() -> None:
    """Chain the entries that there are, in a new table that then takes the old one's name."""
    made = op.create_table(
        "audit_chained",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", TIME, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("actor", "action", "subject", "detail")),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_chained"),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    connection = op.get_bind()
    old = sa.table("audit", *(sa.column(name, made.c[name].type) for name in made.c.keys()[:6]))
    last, digest, entries = 0, "0" * 64, 0
    for row in connection.execute(sa.select(old).order_by(old.c.id)).mappings().all():
        values = dict(row)
        values["at"] = _utc(values["at"])
        values["previous"], values["hash"] = digest, _hash(digest, values)
        connection.execute(sa.insert(made), values)
        last, digest, entries = values["id"], values["hash"], entries + 1
    connection.execute(sa.insert(head), {"id": 1, "last": last, "hash": digest, "entries": entries})
    op.drop_table("audit")
    op.rename_table("audit_chained", "audit")
    if connection.dialect.name == "postgresql":
        op.execute("ALTER TABLE audit RENAME CONSTRAINT pk_audit_chained TO pk_audit")
    _forbid_changes(connection.dialect.name)


def _forbid_changes(dialect: str) -> None:
    if dialect == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _hash(previous: str, values: dict[str, Any]) -> str:
    when = values["at"].isoformat(timespec="microseconds")
    row = [previous, values["id"], when, *(values[name] for name in ("actor", "action", "subject", "detail"))]
    return hashlib.sha256(json.dumps(row, ensure_ascii=True).encode("ascii")).hexdigest()
