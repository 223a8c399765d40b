"""Planned maintenance that operators announce."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "maintenance",
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("server", "start", name="pk_maintenance"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("maintenance")
