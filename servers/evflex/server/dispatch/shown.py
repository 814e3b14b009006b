"""Portfolios and plans of the store as messages."""

from __future__ import annotations

import zlib

from evflex.dispatch.v1 import plan_pb2, portfolio_pb2
from evflex.server.dispatch.portfolio import PortfolioNames
from evflex.server.messages import set_timestamp
from evflex.server.store.plans import PlanRow
from evflex.server.store.portfolios import PortfolioRow


def head(names: PortfolioNames) -> bytes:
    """What a portfolio's row holds as a message: groups and operators."""
    return portfolio_pb2.Portfolio(groups=names.groups, operators=names.operators).SerializeToString()


def portfolio(row: PortfolioRow) -> portfolio_pb2.Portfolio:
    """A portfolio without its columns."""
    message = portfolio_pb2.Portfolio.FromString(row.head)
    message.portfolio_id = row.portfolio_id
    message.version = row.version
    message.currency_code = row.currency_code
    message.asset_count = row.asset_count
    message.profile_count = row.profile_count
    message.resident_bytes = row.resident_bytes
    message.tenant_id = row.tenant_id
    message.area_id = row.area_id
    message.etag = row.etag
    set_timestamp(message.create_time, row.create_time_unix_us)
    set_timestamp(message.update_time, row.update_time_unix_us)
    return message


def plan(row: PlanRow) -> plan_pb2.Plan:
    """A stored plan, without its arrays where only its summary was read."""
    message = plan_pb2.Plan.FromString(zlib.decompress(row.payload) if row.payload else row.summary)
    message.plan_id = row.plan_id
    message.tenant_id = row.tenant_id
    message.area_id = row.area_id
    message.etag = row.etag
    set_timestamp(message.create_time, row.create_time_unix_us)
    set_timestamp(message.update_time, row.update_time_unix_us)
    return message
