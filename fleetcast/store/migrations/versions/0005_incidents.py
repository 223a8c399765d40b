"""Incidents of several servers, silences, the ladder as rows, and an outbox that is delivered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from fleetcast.errors import StoreError

revision = "0005_incidents"
down_revision = "0004_forecast_cycles"
branch_labels = None
depends_on = None

_WHEN = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add to the alerts, make the tables, and move the notifications into the outbox as they are: all were shadow."""
    _extend_alerts()
    _make_outbox()
    op.execute(
        sa.text(
            "INSERT INTO outbox (key, alert_id, episode, at, action, level, receiver, channel,"
            ' "to", status, text, facts, attempts)'
            " SELECT n.key, n.alert_id, 0, n.at, CASE WHEN n.text LIKE '[resolved]%' THEN 'resolve' ELSE 'trigger' END,"
            " a.level, n.channel || ': ' || n.receiver, n.channel, n.receiver, n.status, n.text, '{}', 0"
            " FROM notifications n JOIN alerts a ON a.id = n.alert_id ORDER BY n.id"
        )
    )
    op.drop_table("notifications")
    _make_escalations()
    op.create_table(
        "silences",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("matchers", sa.JSON(), nullable=False),
        sa.Column("starts_at", _WHEN, nullable=False),
        sa.Column("ends_at", _WHEN, nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", _WHEN, nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_silences"),
    )
    op.create_index("ix_silences_ends_at", "silences", ["ends_at"])


def downgrade() -> None:
    """Refuse with `StoreError`: what waits to be sent has no place in the older tables."""
    raise StoreError("notifications cannot be moved back into the older tables: restore a backup of the database")


def _extend_alerts() -> None:
    """Columns are added one by one: a copy of the table would break the references to it on SQLite."""
    op.add_column("alerts", sa.Column("parent_id", sa.Integer(), nullable=True))
    op.add_column("alerts", sa.Column("labels", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("alerts", sa.Column("seen_at", _WHEN, nullable=False, server_default="1970-01-01 00:00:00"))
    op.add_column("alerts", sa.Column("reopened", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("alerts", sa.Column("mitigating_until", _WHEN, nullable=True))
    op.add_column("alerts", sa.Column("suspect", sa.Text(), nullable=True))
    op.execute(sa.text("UPDATE alerts SET seen_at = updated_at"))
    op.drop_column("alerts", "escalated_steps")
    op.create_index("ix_alerts_parent_id", "alerts", ["parent_id"])


def _make_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Integer(), nullable=True),
        sa.Column("episode", sa.Integer(), nullable=False),
        sa.Column("at", _WHEN, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("to", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("first_tried_at", _WHEN, nullable=True),
        sa.Column("next_at", _WHEN, nullable=True),
        sa.Column("claim", sa.Text(), nullable=True),
        sa.Column("claimed_until", _WHEN, nullable=True),
        sa.Column("done_at", _WHEN, nullable=True),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name="fk_outbox_alert_id"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("key", name="uq_outbox_key"),
    )
    op.create_index("ix_outbox_alert_id", "outbox", ["alert_id"])
    op.create_index("ix_outbox_status_next_at", "outbox", ["status", "next_at"])


def _make_escalations() -> None:
    op.create_table(
        "escalations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alert_id", sa.Integer(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("after_s", sa.Integer(), nullable=False),
        sa.Column("due_at", _WHEN, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name="fk_escalations_alert_id"),
        sa.PrimaryKeyConstraint("id", name="pk_escalations"),
    )
    op.create_index("ix_escalations_alert_id", "escalations", ["alert_id"])
    op.create_index("ix_escalations_state_due_at", "escalations", ["state", "due_at"])
