"""Stored networks: saved once a request, read by identifier or page, and deleted; their tables stand in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from google.rpc import code_pb2

from evflex.server.errors import ServiceError
from evflex.server.store.blocks import delete_blocks, new_set_id, read_blocks, undone_on_failure, write_blocks
from evflex.server.store.database import Database
from evflex.server.store.paging import newest_first, next_sequence
from evflex.server.store.records import log_deletion, row_to_delete
from evflex.server.store.requests import RequestKey, common_values, find_request, log_request
from evflex.server.store.retention import Retention
from evflex.server.store.tables import congestion_requests, networks


@dataclass(frozen=True, slots=True)
class NewNetwork:
    """A network to be stored.

    Attributes:
        key: The request that made it.
        area_id: Grid area.
        network_id: Identifier chosen by the client, empty for one of the store's.
        summary: Message without what a list leaves out.
        payload: Whole message, compressed.
        create_time_unix_us: When it was imported, microseconds since 1970-01-01 UTC.
    """

    key: RequestKey
    area_id: str
    network_id: str
    summary: bytes
    payload: bytes
    create_time_unix_us: int


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A row of the store; `payload` is empty where only the summary was asked for."""

    network_uid: str
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


Answer = Callable[[NetworkRow], bytes]
_HEAD = [column for column in networks.c if column.name != "payload"]


class NetworkStore:
    """Networks of all tenants; every query names the tenant."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    def save(self, new: NewNetwork, blocks: Iterator[bytes], answer: Answer) -> tuple[NetworkRow | None, bytes]:
        """Store a network.

        Args:
            new: What the row tells.
            blocks: Its tables.
            answer: Makes the answer that a repeated request gets.

        Returns:
            The row, None where the same request was answered meanwhile, and the answer.

        Raises:
            ServiceError: ALREADY_EXISTS, the id was used for another payload, or the tenant has a network of this
                identifier.
        """
        uid = new_set_id()
        tenant_id = new.key.tenant_id
        with undone_on_failure(self._database, uid):
            write_blocks(self._database, uid, tenant_id, new.area_id, new.create_time_unix_us, blocks)
            with self._database.writing() as connection:
                earlier = _find_answer(connection, new.key)
                if earlier is not None:
                    delete_blocks(connection, uid)
                    return None, earlier
                network_id = new.network_id or uid
                if _find(connection, tenant_id, network_id) is not None:
                    raise network_exists(network_id)
                common = common_values(tenant_id, new.area_id, new.create_time_unix_us)
                values: dict[str, Any] = {
                    **common, "network_uid": uid, "sequence": next_sequence(connection, networks),
                    "network_id": network_id, "summary": new.summary, "payload": new.payload,
                }  # fmt: skip
                connection.execute(networks.insert(), values)
                row = NetworkRow(**values)
                answered = answer(row)
                logged = {**common, "resource_id": network_id, "answer": answered}
                log_request(connection, congestion_requests, new.key, logged)
                self._retention.prune(connection, new.create_time_unix_us)
                return row, answered

    def find_answer(self, key: RequestKey) -> bytes | None:
        """What an earlier request with this id and payload was answered.

        Raises:
            ServiceError: The id was used for another payload.
        """
        with self._database.reading() as connection:
            return _find_answer(connection, key)

    def find(self, tenant_id: str, network_id: str) -> NetworkRow | None:
        """A network's row."""
        with self._database.reading() as connection:
            return _find(connection, tenant_id, network_id)

    @contextmanager
    def blocks(self, network_uid: str) -> Iterator[Iterator[bytes]]:
        """Blocks of a network, none where it has been deleted, while one state of the database is seen."""
        with self._database.reading() as connection:
            yield read_blocks(connection, network_uid)

    def page(
        self, tenant_id: str, before_sequence: int | None, size: int, areas: frozenset[str] | None
    ) -> list[NetworkRow]:
        """At most `size` networks, newest first, without payloads; those stored before `before_sequence` if given."""
        query = sa.select(*_HEAD).where(networks.c.tenant_id == tenant_id)
        rows = newest_first(self._database, query, networks, before_sequence, size, areas)
        return [NetworkRow(**row._mapping) for row in rows]

    def delete(
        self,
        key: RequestKey,
        network_id: str,
        etag: str,
        now_unix_us: int,
        *,
        may_use_area: Callable[[str], bool],
        check_only: bool,
    ) -> None:
        """Delete a network; repeating the request succeeds without effect.

        Raises:
            ServiceError: NOT_FOUND, ABORTED for another etag, or ALREADY_EXISTS for a reused request id.
        """
        with self._database.writing() as connection:
            row = row_to_delete(
                connection, congestion_requests, key, "network", network_id,
                lambda: _find(connection, key.tenant_id, network_id), etag,
                may_use_area=may_use_area, check_only=check_only,
            )  # fmt: skip
            if row is None:
                return
            connection.execute(networks.delete().where(networks.c.network_uid == row.network_uid))
            delete_blocks(connection, row.network_uid)
            log_deletion(connection, congestion_requests, key, row.area_id, network_id, now_unix_us)
            self._retention.prune(connection, now_unix_us)


def network_exists(network_id: str) -> ServiceError:
    """ALREADY_EXISTS for an identifier that is taken."""
    return ServiceError(code_pb2.ALREADY_EXISTS, "NETWORK_EXISTS", f"there is a network {network_id[:100]!r} already")


def _find_answer(connection: sa.Connection, key: RequestKey) -> bytes | None:
    request = find_request(connection, congestion_requests, key)
    return None if request is None else bytes(request.answer)


def _find(connection: sa.Connection, tenant_id: str, network_id: str) -> NetworkRow | None:
    query = sa.select(networks).where(networks.c.tenant_id == tenant_id, networks.c.network_id == network_id)
    row = connection.execute(query).first()
    return None if row is None else NetworkRow(**row._mapping)
