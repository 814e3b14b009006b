"""Allocations, agreements with their versions and audit, bookings, ratings, and the requests that made them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
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
    """Create the seven tables."""
    op.create_table(
        "allocations",
        sa.Column("allocation_id", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("transformer_id", sa.String(256), nullable=False),
        sa.Column("summary", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("allocations_by_transformer", "allocations", ["tenant_id", "transformer_id", "sequence"])
    op.create_index("allocations_by_tenant", "allocations", ["tenant_id", "sequence"])
    op.create_index("allocations_by_sequence", "allocations", ["sequence"])
    op.create_table(
        "agreements",
        sa.Column("agreement_id", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("cpo_party", sa.String(64), nullable=False),
        sa.Column("hub_id", sa.String(256), nullable=False),
        sa.Column("transformer_id", sa.String(256), nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("active_version", sa.Integer, nullable=False),
        sa.Column("last_version", sa.Integer, nullable=False),
    )
    op.create_index("agreements_by_hub", "agreements", ["tenant_id", "hub_id"])
    op.create_index("agreements_by_tenant", "agreements", ["tenant_id", "sequence"])
    op.create_index("agreements_by_sequence", "agreements", ["sequence"])
    op.create_index("agreements_by_cpo", "agreements", ["cpo_party", "sequence"])
    op.create_table(
        "agreement_versions",
        sa.Column("agreement_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("proposed_by", sa.String(64), nullable=False),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("agreement_id", "version"),
    )
    op.create_table(
        "agreement_events",
        sa.Column("agreement_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("event_index", sa.Integer, nullable=False),
        sa.Column("action", sa.Integer, nullable=False),
        sa.Column("party", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("agreement_id", "event_index"),
    )
    op.create_table(
        "bookings",
        sa.Column("booking_id", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("agreement_id", sa.String(36), nullable=False),
        sa.Column("cpo_party", sa.String(64), nullable=False),
        sa.Column("hub_id", sa.String(256), nullable=False),
        sa.Column("transformer_id", sa.String(256), nullable=False),
        sa.Column("booked_by", sa.String(64), nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("released", sa.Integer, nullable=False),
        sa.Column("start_unix_s", sa.Double, nullable=False),
        sa.Column("end_unix_s", sa.Double, nullable=False),
        sa.Column("step_s", sa.Double, nullable=False),
        sa.Column("step_count", sa.Integer, nullable=False),
        sa.Column("time_grid", sa.LargeBinary, nullable=False),
        sa.Column("power_kw", sa.LargeBinary, nullable=False),
    )
    op.create_index("bookings_by_transformer", "bookings", ["tenant_id", "transformer_id", "end_unix_s"])
    op.create_index("bookings_by_agreement", "bookings", ["agreement_id", "end_unix_s"])
    op.create_index("bookings_by_tenant", "bookings", ["tenant_id", "sequence"])
    op.create_index("bookings_by_sequence", "bookings", ["sequence"])
    op.create_index("bookings_by_cpo", "bookings", ["cpo_party", "sequence"])
    op.create_table(
        "transformer_ratings",
        sa.Column("rating_id", sa.String(36), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("transformer_id", sa.String(256), nullable=False),
        sa.Column("start_unix_s", sa.Double, nullable=False),
        sa.Column("end_unix_s", sa.Double, nullable=False),
        sa.Column("step_s", sa.Double, nullable=False),
        sa.Column("step_count", sa.Integer, nullable=False),
        sa.Column("headroom_n_kva", sa.LargeBinary, nullable=False),
        sa.Column("headroom_n1_kva", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index(
        "transformer_ratings_by_transformer", "transformer_ratings", ["tenant_id", "transformer_id", "end_unix_s"]
    )
    op.create_index("transformer_ratings_by_sequence", "transformer_ratings", ["sequence"])
    op.create_table(
        "capacity_requests",
        sa.Column("request_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(256), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "request_id"),
    )
    op.create_index("capacity_requests_by_time", "capacity_requests", ["create_time_unix_us"])


def downgrade() -> None:
    """Drop the seven tables."""
    op.drop_table("capacity_requests")
    op.drop_table("transformer_ratings")
    op.drop_table("bookings")
    op.drop_table("agreement_events")
    op.drop_table("agreement_versions")
    op.drop_table("agreements")
    op.drop_table("allocations")
