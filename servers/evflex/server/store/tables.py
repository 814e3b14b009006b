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

# Portfolios in their newest version; `head` is a Portfolio message with groups and operators only. The fleet itself is
# the block set `base_id`, which holds version `base_version`, and the updates after it.
portfolios = Table(
    "portfolios",
    metadata,
    Column("portfolio_uid", String(36), primary_key=True),
    *_common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("portfolio_id", String(256), nullable=False),
    Column("currency_code", String(8), nullable=False),
    Column("asset_count", BigInteger, nullable=False),
    Column("profile_count", BigInteger, nullable=False),
    Column("resident_bytes", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
    Column("base_id", String(36), nullable=False),
    Column("base_version", BigInteger, nullable=False),
    Column("base_bytes", BigInteger, nullable=False),
    Column("log_bytes", BigInteger, nullable=False),
    Index("portfolios_by_id", "tenant_id", "portfolio_id", unique=True),
    Index("portfolios_by_tenant", "tenant_id", "sequence"),
)

# Changes of portfolios, only ever added to; `version` is the one that a change leads to.
portfolio_updates = Table(
    "portfolio_updates",
    metadata,
    Column("portfolio_uid", String(36), nullable=False),
    *_common_columns(),
    Column("part", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("portfolio_uid", "version", "part"),
)

# Large things in blocks of some megabytes, written before the row that refers to them.
blocks = Table(
    "blocks",
    metadata,
    Column("set_id", String(36), nullable=False),
    *_common_columns(),
    Column("block_index", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("set_id", "block_index"),
    Index("blocks_by_time", "create_time_unix_us"),
)

# Plans; `summary` and `payload` as in schedules, the powers of assets are the block set `plan_id`.
plans = Table(
    "plans",
    metadata,
    Column("plan_id", String(36), primary_key=True),
    *_common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("portfolio_id", String(256), nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("plans_by_portfolio", "tenant_id", "portfolio_id", "sequence"),
    Index("plans_by_tenant", "tenant_id", "sequence"),
)

# As schedule_requests, for portfolios and plans; `answer` is the message that the caller got, where it is kept.
dispatch_requests = Table(
    "dispatch_requests",
    metadata,
    Column("request_id", String(36), nullable=False),
    *_common_columns(),
    Column("method", String(64), nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("resource_id", String(256), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "request_id"),
    Index("dispatch_requests_by_time", "create_time_unix_us"),
)
