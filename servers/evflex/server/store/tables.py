"""Tables of the store. Every row has a tenant, an area, a version and its times; migrations build them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
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


def common_columns() -> list[Column[object]]:
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
    *common_columns(),
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
    *common_columns(),
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
    *common_columns(),
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
    *common_columns(),
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
    *common_columns(),
    Column("part", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("portfolio_uid", "version", "part"),
)

# Large things in blocks of some megabytes, written before the row that refers to them.
blocks = Table(
    "blocks",
    metadata,
    Column("set_id", String(36), nullable=False),
    *common_columns(),
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
    *common_columns(),
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
    *common_columns(),
    Column("method", String(64), nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("resource_id", String(256), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "request_id"),
    Index("dispatch_requests_by_time", "create_time_unix_us"),
)

# Allocations of the owner, a system operator; `summary` and `payload` as in schedules.
allocations = Table(
    "allocations",
    metadata,
    Column("allocation_id", String(36), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("transformer_id", String(256), nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("allocations_by_transformer", "tenant_id", "transformer_id", "sequence"),
    Index("allocations_by_tenant", "tenant_id", "sequence"),
    Index("allocations_by_sequence", "sequence"),
)

# Agreements; the owner is the system operator. `active_version` is the version of the terms in force, or that was when
# it ended, 0 where none was; `last_version` the one proposed last.
agreements = Table(
    "agreements",
    metadata,
    Column("agreement_id", String(36), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("cpo_party", String(64), nullable=False),
    Column("hub_id", String(256), nullable=False),
    Column("transformer_id", String(256), nullable=False),
    Column("state", Integer, nullable=False),
    Column("active_version", Integer, nullable=False),
    Column("last_version", Integer, nullable=False),
    Index("agreements_by_hub", "tenant_id", "hub_id"),
    Index("agreements_by_tenant", "tenant_id", "sequence"),
    Index("agreements_by_sequence", "sequence"),
    Index("agreements_by_cpo", "cpo_party", "sequence"),
)

# Terms of agreements, only ever added to; `version` is that of the terms, `terms` an Agreement message with terms only.
agreement_versions = Table(
    "agreement_versions",
    metadata,
    Column("agreement_id", String(36), nullable=False),
    *common_columns(),
    Column("proposed_by", String(64), nullable=False),
    Column("terms", LargeBinary, nullable=False),
    PrimaryKeyConstraint("agreement_id", "version"),
)

# What was done with agreements, only ever added to; `version` is the one that it was done to.
agreement_events = Table(
    "agreement_events",
    metadata,
    Column("agreement_id", String(36), nullable=False),
    *common_columns(),
    Column("event_index", Integer, nullable=False),
    Column("action", Integer, nullable=False),
    Column("party", String(64), nullable=False),
    Column("request_id", String(36), nullable=False),
    PrimaryKeyConstraint("agreement_id", "event_index"),
)

# Bookings; the owner is the system operator. `power_kw` are little-endian doubles, one a step; `time_grid` is the
# message, because the columns beside it round its times.
bookings = Table(
    "bookings",
    metadata,
    Column("booking_id", String(36), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("agreement_id", String(36), nullable=False),
    Column("cpo_party", String(64), nullable=False),
    Column("hub_id", String(256), nullable=False),
    Column("transformer_id", String(256), nullable=False),
    Column("booked_by", String(64), nullable=False),
    Column("kind", Integer, nullable=False),
    Column("released", Integer, nullable=False),
    Column("start_unix_s", Double, nullable=False),
    Column("end_unix_s", Double, nullable=False),
    Column("step_s", Double, nullable=False),
    Column("step_count", Integer, nullable=False),
    Column("time_grid", LargeBinary, nullable=False),
    Column("power_kw", LargeBinary, nullable=False),
    Index("bookings_by_transformer", "tenant_id", "transformer_id", "end_unix_s"),
    Index("bookings_by_agreement", "agreement_id", "end_unix_s"),
    Index("bookings_by_tenant", "tenant_id", "sequence"),
    Index("bookings_by_sequence", "sequence"),
    Index("bookings_by_cpo", "cpo_party", "sequence"),
)

# Ratings of transformers, whose headroom can be booked: little-endian doubles, one a step.
transformer_ratings = Table(
    "transformer_ratings",
    metadata,
    Column("rating_id", String(36), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("transformer_id", String(256), nullable=False),
    Column("start_unix_s", Double, nullable=False),
    Column("end_unix_s", Double, nullable=False),
    Column("step_s", Double, nullable=False),
    Column("step_count", Integer, nullable=False),
    Column("headroom_n_kva", LargeBinary, nullable=False),
    Column("headroom_n1_kva", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("transformer_ratings_by_transformer", "tenant_id", "transformer_id", "end_unix_s"),
    Index("transformer_ratings_by_sequence", "sequence"),
)

# As dispatch_requests, for capacity.
capacity_requests = Table(
    "capacity_requests",
    metadata,
    Column("request_id", String(36), nullable=False),
    *common_columns(),
    Column("method", String(64), nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("resource_id", String(256), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "request_id"),
    Index("capacity_requests_by_time", "create_time_unix_us"),
)

# Networks, which never change; `summary` and `payload` are Network messages as in schedules, the tables of the network
# are the block set `network_uid`.
networks = Table(
    "networks",
    metadata,
    Column("network_uid", String(36), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("network_id", String(256), nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("networks_by_id", "tenant_id", "network_id", unique=True),
    Index("networks_by_tenant", "tenant_id", "sequence"),
    Index("networks_by_sequence", "sequence"),
)

# Forecasts of congestion; `summary` and `payload` as in schedules, the messages that follow the summary in a stream
# are the block set `forecast_id`.
congestion_forecasts = Table(
    "congestion_forecasts",
    metadata,
    Column("forecast_id", String(36), primary_key=True),
    *common_columns(),
    Column("sequence", BigInteger, nullable=False),
    Column("network_id", String(256), nullable=False),
    Column("summary", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("congestion_forecasts_by_network", "tenant_id", "network_id", "sequence"),
    Index("congestion_forecasts_by_tenant", "tenant_id", "sequence"),
    Index("congestion_forecasts_by_sequence", "sequence"),
)

# As dispatch_requests, for networks and forecasts.
congestion_requests = Table(
    "congestion_requests",
    metadata,
    Column("request_id", String(36), nullable=False),
    *common_columns(),
    Column("method", String(64), nullable=False),
    Column("payload_sha256", String(64), nullable=False),
    Column("resource_id", String(256), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "request_id"),
    Index("congestion_requests_by_time", "create_time_unix_us"),
)
