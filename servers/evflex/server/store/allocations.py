"""Stored allocations: saved once a request, read by identifier or page, and deleted."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evflex.server.store.database import Database
from evflex.server.store.paging import newest_first, next_sequence
from evflex.server.store.records import earlier_answer, log_deletion, row_to_delete
from evflex.server.store.requests import RequestKey, common_values, log_request, may_be_uuid
from evflex.server.store.retention import Retention
from evflex.server.store.tables import allocations, capacity_requests


@dataclass(frozen=True, slots=True)
class NewAllocation:
    """An allocation to be stored.

    Attributes:
        key: The request that made it.
        area_id: Grid area of the transformer.
        transformer_id: Transformer.
        summary: Message without what a list leaves out.
        payload: Whole message, compressed.
        create_time_unix_us: When it was made, microseconds since 1970-01-01 UTC.
    """

    key: RequestKey
    area_id: str
    transformer_id: str
    summary: bytes
    payload: bytes
    create_time_unix_us: int


@dataclass(frozen=True, slots=True)
class AllocationRow:
    """A row of the store; `payload` is empty where only the summary was asked for."""

    allocation_id: str
    tenant_id: str
    area_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    transformer_id: str
    summary: bytes
    payload: bytes = b""


_HEAD = [column for column in allocations.c if column.name != "payload"]


class AllocationStore:
    """Allocations of all tenants; who may see a row that :meth:`find` gives is for its caller to check."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    def save(self, new: NewAllocation) -> tuple[AllocationRow, bool]:
        """Store an allocation.

        Returns:
            Its row, or that of an earlier request with the same id and payload; and whether it is its own.

        Raises:
            ServiceError: The id was used for another payload.
        """
        with self._database.writing() as connection:
            earlier = _find_answer(connection, new.key)
            if earlier is not None:
                return earlier, False
            common = common_values(new.key.tenant_id, new.area_id, new.create_time_unix_us)
            row: dict[str, Any] = {
                **common,
                "allocation_id": str(uuid.uuid4()),
                "sequence": next_sequence(connection, allocations),
                "transformer_id": new.transformer_id,
                "summary": new.summary,
                "payload": new.payload,
            }
            connection.execute(allocations.insert(), row)
            logged = {**common, "resource_id": row["allocation_id"], "answer": b""}
            log_request(connection, capacity_requests, new.key, logged)
            self._retention.prune(connection, new.create_time_unix_us)
            return AllocationRow(**row), True

    def find_answer(self, key: RequestKey) -> AllocationRow | None:
        """The allocation that an earlier request with this id and payload got.

        Raises:
            ServiceError: The id was used for another payload, or the allocation has been deleted.
        """
        with self._database.reading() as connection:
            return _find_answer(connection, key)

    def find(self, allocation_id: str) -> AllocationRow | None:
        """An allocation, whosever it is."""
        with self._database.reading() as connection:
            return _find(connection, allocation_id)

    def page(
        self,
        tenant_id: str,
        transformer_id: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
    ) -> list[AllocationRow]:
        """At most `size` allocations, newest first, without payloads; stored before `before_sequence` if given."""
        query = sa.select(*_HEAD).where(allocations.c.tenant_id == tenant_id)
        if transformer_id:
            query = query.where(allocations.c.transformer_id == transformer_id)
        rows = newest_first(self._database, query, allocations, before_sequence, size, areas)
        return [AllocationRow(**row._mapping) for row in rows]

    def delete(
        self,
        key: RequestKey,
        allocation_id: str,
        etag: str,
        now_unix_us: int,
        *,
        may_use_area: Callable[[str], bool],
        check_only: bool,
    ) -> None:
        """Delete an allocation of the key's tenant; repeating the request succeeds without effect.

        Raises:
            ServiceError: NOT_FOUND, ABORTED for another etag, or ALREADY_EXISTS for a reused request id.
        """
        with self._database.writing() as connection:
            row = row_to_delete(
                connection, capacity_requests, key, "allocation", allocation_id,
                lambda: _find_own(connection, key.tenant_id, allocation_id), etag,
                may_use_area=may_use_area, check_only=check_only,
            )  # fmt: skip
            if row is None:
                return
            connection.execute(allocations.delete().where(allocations.c.allocation_id == allocation_id))
            log_deletion(connection, capacity_requests, key, row.area_id, allocation_id, now_unix_us)
            self._retention.prune(connection, now_unix_us)


def _find_answer(connection: sa.Connection, key: RequestKey) -> AllocationRow | None:
    return earlier_answer(connection, capacity_requests, key, "allocation", lambda name: _find(connection, name))


def _find(connection: sa.Connection, allocation_id: str) -> AllocationRow | None:
    if not may_be_uuid(allocation_id):
        return None
    row = connection.execute(sa.select(allocations).where(allocations.c.allocation_id == allocation_id)).first()
    return None if row is None else AllocationRow(**row._mapping)


def _find_own(connection: sa.Connection, tenant_id: str, allocation_id: str) -> AllocationRow | None:
    row = _find(connection, allocation_id)
    return row if row is not None and row.tenant_id == tenant_id else None
