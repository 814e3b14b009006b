"""Portfolios with their updates, plans, the blocks that hold what is large, and the requests that made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
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
    """Create the five tables."""
    op.create_table(
        "portfolios",
        sa.Column("portfolio_uid", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("portfolio_id", sa.String(256), nullable=False),
        sa.Column("currency_code", sa.String(8), nullable=False),
        sa.Column("asset_count", sa.BigInteger, nullable=False),
        sa.Column("profile_count", sa.BigInteger, nullable=False),
        sa.Column("resident_bytes", sa.BigInteger, nullable=False),
        sa.Column("head", sa.LargeBinary, nullable=False),
        sa.Column("base_id", sa.String(36), nullable=False),
        sa.Column("base_version", sa.BigInteger, nullable=False),
        sa.Column("base_bytes", sa.BigInteger, nullable=False),
        sa.Column("log_bytes", sa.BigInteger, nullable=False),
    )
    op.create_index("portfolios_by_id", "portfolios", ["tenant_id", "portfolio_id"], unique=True)
    op.create_index("portfolios_by_tenant", "portfolios", ["tenant_id", "sequence"])
    op.create_table(
        "portfolio_updates",
        sa.Column("portfolio_uid", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("part", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("portfolio_uid", "version", "part"),
    )
    op.create_table(
        "blocks",
        sa.Column("set_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("block_index", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("set_id", "block_index"),
    )
    op.create_index("blocks_by_time", "blocks", ["create_time_unix_us"])
    op.create_table(
        "plans",
        sa.Column("plan_id", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("portfolio_id", sa.String(256), nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("plans_by_portfolio", "plans", ["tenant_id", "portfolio_id", "sequence"])
    op.create_index("plans_by_tenant", "plans", ["tenant_id", "sequence"])
    op.create_table(
        "dispatch_requests",
        sa.Column("request_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(256), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "request_id"),
    )
    op.create_index("dispatch_requests_by_time", "dispatch_requests", ["create_time_unix_us"])


def downgrade() -> None:
    """Drop the five tables."""
    op.drop_table("dispatch_requests")
    op.drop_table("plans")
    op.drop_table("blocks")
    op.drop_table("portfolio_updates")
    op.drop_table("portfolios")
