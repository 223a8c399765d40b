"""Labels that servers have from their source."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008_host_labels"
down_revision = "0007_plan_index"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "host_labels",
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("server", name=op.f("pk_host_labels")),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("host_labels")
