"""Stored forecasts of congestion: saved once a request, read by identifier or page, and deleted; chunks are blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import sqlalchemy as sa

from evflex.server.errors import not_found
from evflex.server.store.blocks import delete_blocks, new_set_id, read_block, undone_on_failure, write_blocks
from evflex.server.store.database import Database
from evflex.server.store.paging import newest_first, next_sequence
from evflex.server.store.records import earlier_answer, log_deletion, row_to_delete
from evflex.server.store.requests import RequestKey, common_values, log_request, may_be_uuid
from evflex.server.store.retention import Retention
from evflex.server.store.tables import congestion_forecasts, congestion_requests


@dataclass(frozen=True, slots=True)
class NewForecast:
    """A forecast to be stored.

    Attributes:
        key: The request that made it.
        area_id: Grid area of the network.
        network_id: Network.
        summary: Message without what a list leaves out.
        payload: Whole message, compressed.
        create_time_unix_us: When it was made, microseconds since 1970-01-01 UTC.
    """

    key: RequestKey
    area_id: str
    network_id: str
    summary: bytes
    payload: bytes
    create_time_unix_us: int


@dataclass(frozen=True, slots=True)
class ForecastRow:
    """A row of the store; `payload` is empty where only the summary was asked for."""

    forecast_id: str
    tenant_id: str
    area_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    network_id: str
    summary: bytes
    payload: bytes = b""


_HEAD = [column for column in congestion_forecasts.c if column.name != "payload"]


class ForecastStore:
    """Forecasts of all tenants; every query names the tenant."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    def save(self, new: NewForecast, blocks: Iterator[bytes]) -> tuple[ForecastRow, bool]:
        """Store a forecast.

        Returns:
            Its row, or that of an earlier request with the same id and payload; and whether it is its own.

        Raises:
            ServiceError: The id was used for another payload.
        """
        forecast_id = new_set_id()
        tenant_id = new.key.tenant_id
        with undone_on_failure(self._database, forecast_id):
            write_blocks(self._database, forecast_id, tenant_id, new.area_id, new.create_time_unix_us, blocks)
            with self._database.writing() as connection:
                earlier = _find_answer(connection, new.key)
                if earlier is not None:
                    delete_blocks(connection, forecast_id)
                    return earlier, False
                common = common_values(tenant_id, new.area_id, new.create_time_unix_us)
                row: dict[str, Any] = {
                    **common,
                    "forecast_id": forecast_id,
                    "sequence": next_sequence(connection, congestion_forecasts),
                    "network_id": new.network_id,
                    "summary": new.summary,
                    "payload": new.payload,
                }
                connection.execute(congestion_forecasts.insert(), row)
                logged = {**common, "resource_id": forecast_id, "answer": b""}
                log_request(connection, congestion_requests, new.key, logged)
                self._retention.prune(connection, new.create_time_unix_us)
                return ForecastRow(**row), True

    def find_answer(self, key: RequestKey) -> ForecastRow | None:
        """The forecast that an earlier request with this id and payload got.

        Raises:
            ServiceError: The id was used for another payload, or the forecast has been deleted.
        """
        with self._database.reading() as connection:
            return _find_answer(connection, key)

    def get(self, tenant_id: str, forecast_id: str) -> ForecastRow:
        """A forecast.

        Raises:
            ServiceError: NOT_FOUND.
        """
        with self._database.reading() as connection:
            row = _find(connection, tenant_id, forecast_id)
        if row is None:
            raise not_found("forecast", forecast_id)
        return row

    def blocks(self, row: ForecastRow) -> Iterator[bytes]:
        """Blocks of a forecast; between two of them no state of the database is held, for readers may be slow.

        Raises:
            ServiceError: NOT_FOUND, it was deleted meanwhile.
        """
        for index in count():
            with self._database.reading() as connection:
                data = read_block(connection, row.forecast_id, index)
            if data is None:
                break
            yield data
        self.get(row.tenant_id, row.forecast_id)

    def page(
        self,
        tenant_id: str,
        network_id: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
    ) -> list[ForecastRow]:
        """At most `size` forecasts, newest first, without payloads; those stored before `before_sequence` if given."""
        query = sa.select(*_HEAD).where(congestion_forecasts.c.tenant_id == tenant_id)
        if network_id:
            query = query.where(congestion_forecasts.c.network_id == network_id)
        rows = newest_first(self._database, query, congestion_forecasts, before_sequence, size, areas)
        return [ForecastRow(**row._mapping) for row in rows]

    def delete(
        self,
        key: RequestKey,
        forecast_id: str,
        etag: str,
        now_unix_us: int,
        *,
        may_use_area: Callable[[str], bool],
        check_only: bool,
    ) -> None:
        """Delete a forecast; repeating the request succeeds without effect.

        Raises:
            ServiceError: NOT_FOUND, ABORTED for another etag, or ALREADY_EXISTS for a reused request id.
        """
        with self._database.writing() as connection:
            row = row_to_delete(
                connection, congestion_requests, key, "forecast", forecast_id,
                lambda: _find(connection, key.tenant_id, forecast_id), etag,
                may_use_area=may_use_area, check_only=check_only,
            )  # fmt: skip
            if row is None:
                return
            connection.execute(congestion_forecasts.delete().where(congestion_forecasts.c.forecast_id == forecast_id))
            delete_blocks(connection, forecast_id)
            log_deletion(connection, congestion_requests, key, row.area_id, forecast_id, now_unix_us)
            self._retention.prune(connection, now_unix_us)


def _find_answer(connection: sa.Connection, key: RequestKey) -> ForecastRow | None:
    return earlier_answer(
        connection, congestion_requests, key, "forecast", lambda name: _find(connection, key.tenant_id, name)
    )


def _find(connection: sa.Connection, tenant_id: str, forecast_id: str) -> ForecastRow | None:
    if not may_be_uuid(forecast_id):
        return None
    table = congestion_forecasts.c
    query = sa.select(congestion_forecasts).where(table.tenant_id == tenant_id, table.forecast_id == forecast_id)
    row = connection.execute(query).first()
    return None if row is None else ForecastRow(**row._mapping)
