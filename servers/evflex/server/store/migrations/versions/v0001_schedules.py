"""Schedules, the requests that made them, and the log of changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _common_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("area_id", sa.String(256), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("etag", sa.String(64), nullable=False),
        sa.Column("create_time_unix_us", sa.BigInteger, nullable=False),
        sa.Column("update_time_unix_us", sa.BigInteger, nullable=False),
    ]


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "schedules",
        sa.Column("schedule_id", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("site_id", sa.String(256), nullable=False),
        sa.Column("supersedes_schedule_id", sa.String(36), nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("schedules_by_site", "schedules", ["tenant_id", "site_id", "sequence"])
    op.create_index("schedules_by_tenant", "schedules", ["tenant_id", "sequence"])
    op.create_table(
        "schedule_requests",
        sa.Column("request_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("schedule_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "request_id"),
    )
    op.create_table(
        "changes",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        *_common_columns(),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("site_id", sa.String(256), nullable=False),
        sa.Column("schedule_id", sa.String(36), nullable=False),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop the three tables."""
    op.drop_table("changes")
    op.drop_table("schedule_requests")
    op.drop_table("schedules")
