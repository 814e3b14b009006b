"""Stored plans: saved once a request, read by identifier or page, and deleted; powers of assets stand in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evflex.server.errors import not_found
from evflex.server.store.blocks import delete_blocks, new_set_id, read_blocks, undone_on_failure, write_blocks
from evflex.server.store.database import Database
from evflex.server.store.paging import newest_first, next_sequence
from evflex.server.store.records import earlier_answer, log_deletion, row_to_delete
from evflex.server.store.requests import RequestKey, common_values, log_request, may_be_uuid
from evflex.server.store.retention import Retention
from evflex.server.store.tables import dispatch_requests, plans


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan to be stored.

    Attributes:
        key: The request that made it.
        area_id: Grid area of the portfolio.
        portfolio_id: Portfolio.
        summary: Message without arrays.
        payload: Whole message, compressed.
        create_time_unix_us: When it was made, microseconds since 1970-01-01 UTC.
    """

    key: RequestKey
    area_id: str
    portfolio_id: str
    summary: bytes
    payload: bytes
    create_time_unix_us: int


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A row of the store; `payload` is empty where only the summary was asked for."""

    plan_id: str
    tenant_id: str
    area_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    portfolio_id: str
    summary: bytes
    payload: bytes = b""


_HEAD = [column for column in plans.c if column.name != "payload"]


class PlanStore:
    """Plans of all tenants; every query names the tenant."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    def save(self, new: NewPlan, blocks: Iterator[bytes]) -> tuple[PlanRow, bool]:
        """Store a plan.

        Returns:
            Its row, or that of an earlier request with the same id and payload; and whether it is its own.

        Raises:
            ServiceError: The id was used for another payload.
        """
        plan_id = new_set_id()
        tenant_id = new.key.tenant_id
        with undone_on_failure(self._database, plan_id):
            write_blocks(self._database, plan_id, tenant_id, new.area_id, new.create_time_unix_us, blocks)
            with self._database.writing() as connection:
                earlier = _find_answer(connection, new.key)
                if earlier is not None:
                    delete_blocks(connection, plan_id)
                    return earlier, False
                common = common_values(tenant_id, new.area_id, new.create_time_unix_us)
                row: dict[str, Any] = {
                    **common,
                    "plan_id": plan_id,
                    "sequence": next_sequence(connection, plans),
                    "portfolio_id": new.portfolio_id,
                    "summary": new.summary,
                    "payload": new.payload,
                }
                connection.execute(plans.insert(), row)
                log_request(connection, dispatch_requests, new.key, {**common, "resource_id": plan_id, "answer": b""})
                self._retention.prune(connection, new.create_time_unix_us)
                return PlanRow(**row), True

    def find_answer(self, key: RequestKey) -> PlanRow | None:
        """The plan that an earlier request with this id and payload got.

        Raises:
            ServiceError: The id was used for another payload, or the plan has been deleted.
        """
        with self._database.reading() as connection:
            return _find_answer(connection, key)

    def get(self, tenant_id: str, plan_id: str) -> PlanRow:
        """A plan.

        Raises:
            ServiceError: NOT_FOUND.
        """
        with self._database.reading() as connection:
            row = _find(connection, tenant_id, plan_id)
        if row is None:
            raise not_found("plan", plan_id)
        return row

    @contextmanager
    def blocks(self, plan_id: str) -> Iterator[Iterator[bytes]]:
        """Blocks of a plan, while one state of the database is seen."""
        with self._database.reading() as connection:
            yield read_blocks(connection, plan_id)

    def page(
        self,
        tenant_id: str,
        portfolio_id: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
    ) -> list[PlanRow]:
        """At most `size` plans, newest first, without payloads; those stored before `before_sequence` if given."""
        query = sa.select(*_HEAD).where(plans.c.tenant_id == tenant_id)
        if portfolio_id:
            query = query.where(plans.c.portfolio_id == portfolio_id)
        rows = newest_first(self._database, query, plans, before_sequence, size, areas)
        return [PlanRow(**row._mapping) for row in rows]

    def delete(
        self,
        key: RequestKey,
        plan_id: str,
        etag: str,
        now_unix_us: int,
        *,
        may_use_area: Callable[[str], bool],
        check_only: bool,
    ) -> None:
        """Delete a plan; repeating the request succeeds without effect.

        Raises:
            ServiceError: NOT_FOUND, ABORTED for another etag, or ALREADY_EXISTS for a reused request id.
        """
        with self._database.writing() as connection:
            row = row_to_delete(
                connection, dispatch_requests, key, "plan", plan_id,
                lambda: _find(connection, key.tenant_id, plan_id), etag,
                may_use_area=may_use_area, check_only=check_only,
            )  # fmt: skip
            if row is None:
                return
            connection.execute(plans.delete().where(plans.c.plan_id == plan_id))
            delete_blocks(connection, plan_id)
            log_deletion(connection, dispatch_requests, key, row.area_id, plan_id, now_unix_us)
            self._retention.prune(connection, now_unix_us)


def _find_answer(connection: sa.Connection, key: RequestKey) -> PlanRow | None:
    return earlier_answer(
        connection, dispatch_requests, key, "plan", lambda name: _find(connection, key.tenant_id, name)
    )


def _find(connection: sa.Connection, tenant_id: str, plan_id: str) -> PlanRow | None:
    if not may_be_uuid(plan_id):
        return None
    query = sa.select(plans).where(plans.c.tenant_id == tenant_id, plans.c.plan_id == plan_id)
    row = connection.execute(query).first()
    return None if row is None else PlanRow(**row._mapping)
