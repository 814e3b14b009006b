"""Networks, forecasts of congestion, and the requests that made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
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
        "networks",
        sa.Column("network_uid", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("network_id", sa.String(256), nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("networks_by_id", "networks", ["tenant_id", "network_id"], unique=True)
    op.create_index("networks_by_tenant", "networks", ["tenant_id", "sequence"])
    op.create_index("networks_by_sequence", "networks", ["sequence"])
    op.create_table(
        "congestion_forecasts",
        sa.Column("forecast_id", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("network_id", sa.String(256), nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("congestion_forecasts_by_network", "congestion_forecasts", ["tenant_id", "network_id", "sequence"])
    op.create_index("congestion_forecasts_by_tenant", "congestion_forecasts", ["tenant_id", "sequence"])
    op.create_index("congestion_forecasts_by_sequence", "congestion_forecasts", ["sequence"])
    op.create_table(
        "congestion_requests",
        sa.Column("request_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(256), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "request_id"),
    )
    op.create_index("congestion_requests_by_time", "congestion_requests", ["create_time_unix_us"])


def downgrade() -> None:
    """Drop the three tables."""
    op.drop_table("congestion_requests")
    op.drop_table("congestion_forecasts")
    op.drop_table("networks")
