"""Plans are found by their alert."""

from __future__ import annotations

from alembic import op

revision = "0007_plan_index"
down_revision = "0006_remediation"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_plans_alert_id", "plans", ["alert_id"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_plans_alert_id", "plans")
