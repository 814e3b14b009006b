"""An index by which old requests are found."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("schedule_requests_by_time", "schedule_requests", ["create_time_unix_us"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("schedule_requests_by_time", "schedule_requests")
