"""Tables of the store. Every row has a tenant, an area, a version and its times; migrations build them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
)

metadata = MetaData()

# SQLite numbers rows by itself only in a column that is exactly INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")


def _common_columns() -> list[Column[object]]:
    """Columns that every table has."""
    return [
        Column("tenant_id", String(64), nullable=False),
        Column("area_id", String(256), nullable=False),
        Column("version", Integer, nullable=False),
        Column("etag", String(64), nullable=False),
        Column("create_time_unix_us", BigInteger, nullable=False),
        Column("update_time_unix_us", BigInteger, nullable=False),
    ]


# `sequence` is the number of the change that stored the row. `summary` and `payload` are protobuf messages without the
# fields that have columns here; the payload is compressed.
schedules = Table(
    "schedules",
    metadata,
    Column("schedule_id", String(36), primary_key=True),
    *_common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("site_id", String(256), nullable=False),
    Column("supersedes_schedule_id", String(36), nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("schedules_by_site", "tenant_id", "site_id", "sequence"),
    Index("schedules_by_tenant", "tenant_id", "sequence"),
)

# Which request was answered with what, so that a repeated one gets the same answer.
schedule_requests = Table(
    "schedule_requests",
    metadata,
    Column("request_id", String(36), nullable=False),
    *_common_columns(),
    Column("method", String(64), nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("schedule_id", String(36), nullable=False),
    PrimaryKeyConstraint("tenant_id", "request_id"),
    Index("schedule_requests_by_time", "create_time_unix_us"),
)

# Log that watches follow; sequences rise in the order of commits, because writers take turns.
changes = Table(
    "changes",
    metadata,
    Column("sequence", _Sequence, primary_key=True, autoincrement=True),
    *_common_columns(),
    Column("kind", Integer, nullable=False),
    Column("site_id", String(256), nullable=False),
    Column("schedule_id", String(36), nullable=False),
    sqlite_autoincrement=True,
)
