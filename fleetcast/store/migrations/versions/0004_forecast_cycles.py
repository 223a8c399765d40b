"""Leases, and what forecast cycles found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004_forecast_cycles"
down_revision = "0003_sample_chunks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.create_table(
        "forecast_cycles",
        sa.Column("origin", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("servers", sa.Integer(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("risks", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("origin", name="pk_forecast_cycles"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("forecast_cycles")
    op.drop_table("leases")
