"""Forgets old changes and old requests, a bounded number at a time, in the transactions of those who write."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from evflex.server.store.activation_tables import activation_requests
from evflex.server.store.tables import (
    blocks,
    capacity_requests,
    changes,
    congestion_forecasts,
    congestion_requests,
    dispatch_requests,
    networks,
    plans,
    portfolios,
    schedule_requests,
)

_DAY_US = 86_400_000_000
_INTERVAL_US = 3_600_000_000
_MOST_ROWS = 1_000
_REQUESTS = (schedule_requests, dispatch_requests, capacity_requests, congestion_requests, activation_requests)


@dataclass(slots=True)
class Retention:
    """How long rows are kept that only time makes useless.

    Attributes:
        change_days: Age at which a change is forgotten; a watch cannot be resumed before it. The newest is always kept,
            because numbers of changes go on from it.
        request_days: Age at which the id of a request is forgotten; repeating it then is a new request.
    """

    change_days: float
    request_days: float
    _next_unix_us: int = 0

    def is_due(self, now_unix_us: int) -> bool:
        """Whether `prune` would look for old rows now."""
        return now_unix_us >= self._next_unix_us

    def prune(self, connection: sa.Connection, now_unix_us: int, most_rows: int = _MOST_ROWS) -> int:
        """Forget what is too old, once an hour, or with every call while there is more than `most_rows` of it.

        Returns:
            How many rows were deleted.
        """
        if not self.is_due(now_unix_us):
            return 0
        deleted = [
            self._prune_changes(connection, now_unix_us - int(self.change_days * _DAY_US), most_rows),
            *(
                self._prune_requests(connection, table, now_unix_us - int(self.request_days * _DAY_US), most_rows)
                for table in _REQUESTS
            ),
        ]
        if max(deleted) < most_rows:
            self._next_unix_us = now_unix_us + _INTERVAL_US
        return sum(deleted)

    @staticmethod
    def _prune_changes(connection: sa.Connection, before_unix_us: int, most_rows: int) -> int:
        # changes are numbered in the order of time, so the oldest stand first and no index on time is needed
        oldest = (
            sa.select(changes.c.sequence, changes.c.create_time_unix_us)
            .order_by(changes.c.sequence)
            .limit(most_rows)
            .subquery()
        )
        last = sa.select(sa.func.max(changes.c.sequence)).scalar_subquery()
        expired = sa.select(oldest.c.sequence).where(
            oldest.c.create_time_unix_us < before_unix_us, oldest.c.sequence < last
        )
        return connection.execute(changes.delete().where(changes.c.sequence.in_(expired))).rowcount

    @staticmethod
    def _prune_requests(connection: sa.Connection, table: sa.Table, before_unix_us: int, most_rows: int) -> int:
        key = sa.tuple_(table.c.tenant_id, table.c.request_id)
        expired = (
            sa.select(table.c.tenant_id, table.c.request_id)
            .where(table.c.create_time_unix_us < before_unix_us)
            .order_by(table.c.create_time_unix_us)
            .limit(most_rows)
        )
        return connection.execute(table.delete().where(key.in_(expired))).rowcount


def prune_blocks(connection: sa.Connection, now_unix_us: int) -> int:
    """Delete blocks that no row refers to, because a server died before it wrote the row; not those of the last day.

    Returns:
        How many rows were deleted.
    """
    referred = sa.union_all(
        sa.select(portfolios.c.base_id),
        sa.select(plans.c.plan_id),
        sa.select(networks.c.network_uid),
        sa.select(congestion_forecasts.c.forecast_id),
    )
    lost = blocks.delete().where(blocks.c.create_time_unix_us < now_unix_us - _DAY_US, blocks.c.set_id.not_in(referred))
    return connection.execute(lost).rowcount
