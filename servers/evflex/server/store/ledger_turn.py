"""One transaction of the activation ledger: locks, the lines after a place, what is added, and answers of requests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from evflex.server.errors import ServiceError
from evflex.server.store.activation_tables import (
    activation_aggregators,
    activation_head,
    activation_log,
    activation_requests,
    activation_resources,
)
from evflex.server.store.database import try_writer_lock
from evflex.server.store.ledger_rows import Head, LogRow, NewEvent, chained, lines_after
from evflex.server.store.ledger_state import write_state
from evflex.server.store.many_rows import Values, insert_missing_of, insert_of, select_in
from evflex.server.store.requests import RequestKey, common_values, request_id_reused
from evflex.server.store.retention import Retention

Cap = tuple[str, str]
Answered = tuple[RequestKey, str, str, bytes]


class LedgerTurn:
    """The ledger as one transaction sees and changes it.

    Where several servers share a database, locks are taken in this order: `lock` once, with all that is judged, then
    `lock_head`; after that nothing is added by others, and `events_after` and `find_requests` tell all there is. On
    SQLite the whole transaction is one lock.
    """

    def __init__(self, connection: sa.Connection, retention: Retention) -> None:
        """Work in the transaction of `connection`, and forget what `retention` says is too old."""
        self._connection = connection
        self._retention = retention
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._head: Head | None = None

    @property
    def locks_rows(self) -> bool:
        """Whether `lock` does anything; else the whole transaction is one lock."""
        return not self._is_sqlite

    def lock(self, resource_ids: Collection[str], caps: Collection[Cap]) -> None:
        """Keep others from changing, until the end, what is sold of resources and under the caps of aggregators.

        Args:
            resource_ids: Resources; those that are not stored are passed over.
            caps: Tenant and area of each aggregator whose sales in an area are added up.
        """
        if self._is_sqlite:
            return
        # all transactions take their locks in one order, so no two wait for each other
        if resource_ids:
            self._connection.execute(_LOCK_RESOURCES, {"resource_ids": sorted(set(resource_ids))}).all()
        if caps:
            self._lock_caps(sorted(set(caps)))

    def _lock_caps(self, caps: list[Cap]) -> None:
        rows: list[Values] = [
            {
                "tenant_id": tenant_id, "area_id": area_id, "version": 1, "etag": "", "create_time_unix_us": 0,
                "update_time_unix_us": 0,
            }
            for tenant_id, area_id in caps
        ]  # fmt: skip
        _AGGREGATORS.insert(self._connection, rows)
        table = activation_aggregators.c
        query = (
            sa.select(table.tenant_id, table.area_id)
            .where(sa.tuple_(table.tenant_id, table.area_id).in_(caps))
            .order_by(table.tenant_id, table.area_id)
            .with_for_update()
        )
        self._connection.execute(query).all()

    def lock_head(self) -> Head:
        """Where the ledger ends, and will until this turn adds to it; the last lock that is taken."""
        row = self._connection.execute(_LOCKED_HEAD).one()
        self._head = Head(row[0], bytes(row[1]))
        return self._head

    def events_after(self, sequence: int) -> list[LogRow]:
        """The lines after one, in their order."""
        return lines_after(self._connection, sequence)

    def append(self, entries: Sequence[NewEvent], now_unix_us: int) -> None:
        """Add changes to the ledger, and to the present state; locks the head where that was not done.

        Args:
            entries: Changes in their order; the first gets the number after the head.
            now_unix_us: When they are written.

        Raises:
            ValueError: An event holds another sequence than it gets; nothing was written.
            ServiceError: FAILED_PRECONDITION, EXCLUSIVE_RIGHT_TAKEN; the turn can then only be given up.
        """
        if not entries:
            return
        head = self._head or self.lock_head()
        rows = chained(head, entries, now_unix_us)
        _LINES.insert(self._connection, [_line_values(row) for row in rows])
        write_state(self._connection, entries, head.sequence + 1, now_unix_us)
        self._head = Head(rows[-1].sequence, rows[-1].hash)
        values = {"sequence": self._head.sequence, "hash": self._head.hash, "now_unix_us": now_unix_us}
        self._connection.execute(_MOVE_HEAD, values)

    def find_requests(self, keys: Collection[RequestKey]) -> dict[RequestKey, bytes | ServiceError]:
        """What earlier requests were answered, for those of many that have one.

        Returns:
            The answer, or the error that tells that the id was used for another payload.
        """
        if not keys:
            return {}
        result = select_in(self._connection, _FIND_REQUESTS, [key.request_id for key in keys])
        rows = {(row.tenant_id, row.request_id): row for row in result}
        found: dict[RequestKey, bytes | ServiceError] = {}
        for key in keys:
            row = rows.get((key.tenant_id, key.request_id))
            if row is not None:
                same = key.is_repeat_of(row.method, row.payload_sha256)
                found[key] = bytes(row.answer) if same else request_id_reused()
        return found

    def log_requests(self, answered: Sequence[Answered], now_unix_us: int) -> None:
        """Remember what requests were answered, and forget those that are too old.

        Args:
            answered: Each request with the identifier of what it changed, the area of that, and the answer; no two of
                one tenant with the same id.
            now_unix_us: When they were answered.
        """
        rows: list[Values] = [
            {
                **common_values(key.tenant_id, area_id, now_unix_us),
                "request_id": key.request_id, "method": key.method, "payload_sha256": key.payload_sha256,
                "resource_id": resource_id, "answer": answer,
            }
            for key, resource_id, area_id, answer in answered
        ]  # fmt: skip
        _REQUESTS.insert(self._connection, rows)
        # who else forgets holds that lock, so no two of them wait for each other's rows
        if self._retention.is_due(now_unix_us) and try_writer_lock(self._connection):
            self._retention.prune(self._connection, now_unix_us)


def _line_values(row: LogRow) -> Values:
    return {
        "sequence": row.sequence, "tenant_id": row.tenant_id, "area_id": row.area_id, "version": 1, "etag": "",
        "create_time_unix_us": row.event_time_unix_us, "update_time_unix_us": row.event_time_unix_us,
        "kind": row.kind, "event": row.event, "event_sha256": row.event_sha256, "previous_hash": row.previous_hash,
        "hash": row.hash,
    }  # fmt: skip


_LOCKED_HEAD = (
    sa.select(activation_head.c.sequence, activation_head.c.hash)
    .where(activation_head.c.shard_id == 0)
    .with_for_update()  # which SQLite leaves away
)
_FIND_REQUESTS = (
    f"SELECT tenant_id, request_id, method, payload_sha256, answer FROM {activation_requests.name} WHERE request_id"
)
_LOCK_RESOURCES = sa.text(
    f"SELECT resource_id FROM {activation_resources.name} WHERE resource_id = ANY(:resource_ids)"
    " ORDER BY resource_id FOR UPDATE"
)
_AGGREGATORS = insert_missing_of(activation_aggregators)
_LINES = insert_of(activation_log)
_REQUESTS = insert_of(activation_requests)
_MOVE_HEAD = sa.text(
    f"UPDATE {activation_head.name} SET sequence = :sequence, hash = :hash, version = version + 1,"
    " update_time_unix_us = :now_unix_us WHERE shard_id = 0"
)
