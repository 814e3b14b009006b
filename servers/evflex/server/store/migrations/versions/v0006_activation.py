"""The ledger of activation: its log, the state that it led to, and the requests that were answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.exc import ProgrammingError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = (
    "activation_head", "activation_log", "activation_resources", "activation_sessions", "activation_commitments",
    "activation_policies", "activation_conflicts", "activation_exclusive_rights", "activation_aggregators",
    "activation_requests",
)  # fmt: skip


def _common_columns() -> list[sa.Column[object]]:
    return [
        sa.Column("tenant_id", sa.String(64), nullable=False),
        sa.Column("area_id", sa.String(256), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("etag", sa.String(64), nullable=False),
        sa.Column("create_time_unix_us", sa.BigInteger, nullable=False),
        sa.Column("update_time_unix_us", sa.BigInteger, nullable=False),
    ]


def _line_number() -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    return sa.Column("sequence", kind, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Create the ten tables, and the head of a ledger without lines."""
    _create_log()
    _create_state()
    _create_conflicts()
    _create_rights()
    op.create_table(
        "activation_aggregators", *_common_columns(), sa.PrimaryKeyConstraint("tenant_id", "area_id"),
    )  # fmt: skip
    op.create_table(
        "activation_requests",
        sa.Column("request_id", sa.String(36), nullable=False),
        *_common_columns(),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(256), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("request_id", "tenant_id"),
    )
    op.create_index("activation_requests_by_time", "activation_requests", ["create_time_unix_us"])


def _create_log() -> None:
    head = op.create_table(
        "activation_head",
        sa.Column("shard_id", sa.Integer, primary_key=True, autoincrement=False),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    empty = {
        "shard_id": 0, "tenant_id": "", "area_id": "", "version": 1, "etag": "", "create_time_unix_us": 0,
        "update_time_unix_us": 0, "sequence": 0, "hash": bytes(32),
    }  # fmt: skip
    op.bulk_insert(head, [empty])
    op.create_table(
        "activation_log",
        _line_number(),
        *_common_columns(),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
        sa.Column("event_sha256", sa.LargeBinary, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )


def _create_state() -> None:
    op.create_table(
        "activation_resources",
        sa.Column("resource_id", sa.String(256), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("parent_id", sa.String(256), nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("activation_resources_by_tenant", "activation_resources", ["tenant_id", "sequence"])
    op.create_index("activation_resources_by_sequence", "activation_resources", ["sequence"])
    op.create_table(
        "activation_sessions",
        sa.Column("session_id", sa.String(256), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("ev_resource_id", sa.String(256), nullable=False),
        sa.Column("charge_point_resource_id", sa.String(256), nullable=False),
        sa.Column("start_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("end_unix_ms", sa.BigInteger, nullable=True),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("activation_sessions_by_ev", "activation_sessions", ["ev_resource_id", "sequence"])
    op.create_index(
        "activation_sessions_by_charge_point", "activation_sessions", ["charge_point_resource_id", "sequence"]
    )
    op.create_index("activation_sessions_by_tenant", "activation_sessions", ["tenant_id", "sequence"])
    op.create_index("activation_sessions_by_end", "activation_sessions", ["end_unix_ms"])
    op.create_index("activation_sessions_by_sequence", "activation_sessions", ["sequence"])
    op.create_table(
        "activation_commitments",
        sa.Column("commitment_id", sa.String(256), primary_key=True),
        *_common_columns(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("product_id", sa.String(256), nullable=False),
        sa.Column("start_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("end_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("activation_commitments_by_tenant", "activation_commitments", ["tenant_id", "sequence"])
    op.create_index("activation_commitments_by_state", "activation_commitments", ["state", "end_unix_ms"])
    op.create_table(
        "activation_policies",
        *_common_columns(),
        sa.Column("product_id", sa.String(256), nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("area_id", "product_id"),
    )
    op.create_index("activation_policies_by_sequence", "activation_policies", ["sequence"])


def _create_conflicts() -> None:
    op.create_table(
        "activation_conflicts",
        _line_number(),
        *_common_columns(),
        sa.Column("kept_tenant_id", sa.String(64), nullable=False),
        sa.Column("suspended_tenant_id", sa.String(64), nullable=False),
        sa.Column("suspended_commitment_id", sa.String(256), nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("activation_conflicts_by_kept", "activation_conflicts", ["kept_tenant_id", "sequence"])
    op.create_index("activation_conflicts_by_suspended", "activation_conflicts", ["suspended_tenant_id", "sequence"])
    op.create_index(
        "activation_conflicts_by_commitment", "activation_conflicts", ["suspended_commitment_id", "sequence"]
    )


def _create_rights() -> None:
    op.create_table(
        "activation_exclusive_rights",
        sa.Column("commitment_id", sa.String(256), primary_key=True),
        *_common_columns(),
        sa.Column("group_name", sa.String(256), nullable=False),
        sa.Column("start_unix_ms", sa.BigInteger, nullable=False),
        sa.Column("end_unix_ms", sa.BigInteger, nullable=False),
    )
    if _has_btree_gist(op.get_bind()):
        op.execute(
            "ALTER TABLE activation_exclusive_rights ADD CONSTRAINT activation_exclusive_rights_apart"
            " EXCLUDE USING gist (tenant_id WITH =, group_name WITH =, int8range(start_unix_ms, end_unix_ms) WITH &&)"
        )


def _has_btree_gist(connection: sa.Connection) -> bool:
    """Whether equality can be part of an exclusion constraint; without it the server's own check stands alone."""
    if connection.dialect.name != "postgresql":
        return False
    listed = connection.execute(sa.text("SELECT 1 FROM pg_available_extensions WHERE name = 'btree_gist'"))
    if listed.first() is None:
        return False
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS btree_gist"))
    except ProgrammingError:  # not ours to create
        return False
    return True


def downgrade() -> None:
    """Drop the ten tables; the extension stays, for others may use it."""
    for table in reversed(_TABLES):
        op.drop_table(table)
