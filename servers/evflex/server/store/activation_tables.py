"""Tables of the activation ledger: a log that is only ever added to, and the present state that it led to."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
)

from evflex.server.store.tables import common_columns, metadata

# Where the ledger ends, in one row; whoever adds to the log holds its lock.
activation_head = Table(
    "activation_head",
    metadata,
    Column("shard_id", Integer, primary_key=True, autoincrement=False),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# Lines of the ledger, only ever added to; `kind` is the number of the change in LedgerEvent, the create time the
# event_time of the line, the tenant whose request it was.
activation_log = Table(
    "activation_log",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    *common_columns(),
    Column("kind", Integer, nullable=False),
    Column("event", LargeBinary, nullable=False),
    Column("event_sha256", LargeBinary, nullable=False),
    Column("previous_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# The payload of this table and the next three is the whole message; `sequence` is that of the message.
activation_resources = Table(
    "activation_resources",
    metadata,
    Column("resource_id", String(256), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("parent_id", String(256), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("activation_resources_by_tenant", "tenant_id", "sequence"),
    Index("activation_resources_by_sequence", "sequence"),
)

# The end is NULL while the vehicle is plugged in.
activation_sessions = Table(
    "activation_sessions",
    metadata,
    Column("session_id", String(256), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("ev_resource_id", String(256), nullable=False),
    Column("charge_point_resource_id", String(256), nullable=False),
    Column("start_unix_ms", BigInteger, nullable=False),
    Column("end_unix_ms", BigInteger, nullable=True),
    Column("payload", LargeBinary, nullable=False),
    Index("activation_sessions_by_ev", "ev_resource_id", "sequence"),
    Index("activation_sessions_by_charge_point", "charge_point_resource_id", "sequence"),
    Index("activation_sessions_by_tenant", "tenant_id", "sequence"),
    Index("activation_sessions_by_end", "end_unix_ms"),
    Index("activation_sessions_by_sequence", "sequence"),
)

# The tenant is the aggregator; `sequence` is the place at which the commitment was made, and never changes.
activation_commitments = Table(
    "activation_commitments",
    metadata,
    Column("commitment_id", String(256), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("state", Integer, nullable=False),
    Column("product_id", String(256), nullable=False),
    Column("start_unix_ms", BigInteger, nullable=False),
    Column("end_unix_ms", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("activation_commitments_by_tenant", "tenant_id", "sequence"),
    Index("activation_commitments_by_state", "state", "end_unix_ms"),
)

# An empty area or product means all.
activation_policies = Table(
    "activation_policies",
    metadata,
    *common_columns(),
    Column("product_id", String(256), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    PrimaryKeyConstraint("area_id", "product_id"),
    Index("activation_policies_by_sequence", "sequence"),
)

# Conflicts that were decided, only ever added to; `payload` is a ResolvedConflict message.
activation_conflicts = Table(
    "activation_conflicts",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    *common_columns(),
    Column("kept_tenant_id", String(64), nullable=False),
    Column("suspended_tenant_id", String(64), nullable=False),
    Column("suspended_commitment_id", String(256), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("activation_conflicts_by_kept", "kept_tenant_id", "sequence"),
    Index("activation_conflicts_by_suspended", "suspended_tenant_id", "sequence"),
    Index("activation_conflicts_by_commitment", "suspended_commitment_id", "sequence"),
)

# Times of activated commitments in exclusive groups. On PostgreSQL with btree_gist the database itself refuses two that
# share time in one group of an aggregator; that constraint is made by the migration, for no other database knows it.
activation_exclusive_rights = Table(
    "activation_exclusive_rights",
    metadata,
    Column("commitment_id", String(256), primary_key=True),
    *common_columns(),
    Column("group_name", String(256), nullable=False),
    Column("start_unix_ms", BigInteger, nullable=False),
    Column("end_unix_ms", BigInteger, nullable=False),
)

# Rows that are only locked: what one aggregator sells in one area.
activation_aggregators = Table(
    "activation_aggregators",
    metadata,
    *common_columns(),
    PrimaryKeyConstraint("tenant_id", "area_id"),
)

# As dispatch_requests, for the ledger. The id stands first in the key, because many are looked for at once: by id alone
# every database goes to them at once, where by pairs it may read all requests of a tenant.
activation_requests = Table(
    "activation_requests",
    metadata,
    Column("request_id", String(36), nullable=False),
    *common_columns(),
    Column("method", String(64), nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("resource_id", String(256), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    PrimaryKeyConstraint("request_id", "tenant_id"),
    Index("activation_requests_by_time", "create_time_unix_us"),
)
