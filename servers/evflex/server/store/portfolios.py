"""Stored portfolios: a base in blocks, and a log of the changes after it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from google.rpc import code_pb2

from evflex.server.errors import ServiceError, not_found
from evflex.server.store.blocks import delete_blocks, new_set_id, read_blocks, undone_on_failure, write_blocks
from evflex.server.store.database import Database
from evflex.server.store.paging import newest_first, next_sequence
from evflex.server.store.records import log_deletion, row_to_delete
from evflex.server.store.requests import RequestKey, common_values, find_request, log_request, new_etag
from evflex.server.store.retention import Retention
from evflex.server.store.tables import dispatch_requests, portfolio_updates, portfolios


@dataclass(frozen=True, slots=True)
class PortfolioFigures:
    """What a row tells of a fleet.

    Attributes:
        asset_count: Assets.
        profile_count: Assets with a profile.
        resident_bytes: Memory that it takes.
        head: Portfolio message with groups and operators only.
    """

    asset_count: int
    profile_count: int
    resident_bytes: int
    head: bytes


@dataclass(frozen=True, slots=True)
class NewPortfolio:
    """A portfolio to be stored.

    Attributes:
        key: The request.
        portfolio_id: Identifier; empty takes the one that the store gives.
        area_id: Grid area.
        currency_code: Currency.
        figures: What the row tells.
        create_time_unix_us: Time of the change.
    """

    key: RequestKey
    portfolio_id: str
    area_id: str
    currency_code: str
    figures: PortfolioFigures
    create_time_unix_us: int


@dataclass(frozen=True, slots=True)
class PortfolioRow:
    """A row of the store."""

    portfolio_uid: str
    tenant_id: str
    area_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    portfolio_id: str
    currency_code: str
    asset_count: int
    profile_count: int
    resident_bytes: int
    head: bytes
    base_id: str
    base_version: int
    base_bytes: int
    log_bytes: int


@dataclass(frozen=True, slots=True)
class StoredPortfolio:
    """A portfolio while its state of the database is seen.

    Attributes:
        row: Its row.
    """

    row: PortfolioRow
    _connection: sa.Connection

    def base(self) -> Iterator[bytes]:
        """Blocks of the base."""
        return read_blocks(self._connection, self.row.base_id)

    def updates_after(self, version: int) -> Iterator[tuple[int, bytes]]:
        """Version and data of each part of the changes after a version."""
        table = portfolio_updates.c
        query = (
            sa.select(table.version, table.data)
            .where(table.portfolio_uid == self.row.portfolio_uid, table.version > version)
            .order_by(table.version, table.part)
        )
        for row in self._connection.execution_options(yield_per=64).execute(query):
            yield row.version, row.data


class VersionPassedError(Exception):
    """Another process has changed the portfolio meanwhile."""


Answer = Callable[[PortfolioRow], bytes]


class PortfolioStore:
    """Portfolios of all tenants; every query names the tenant."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    def find_answer(self, key: RequestKey) -> bytes | None:
        """What an earlier request with this id and payload was answered.

        Raises:
            ServiceError: The id was used for another payload.
        """
        with self._database.reading() as connection:
            return _find_answer(connection, key)

    def create(self, new: NewPortfolio, blocks: Iterator[bytes], answer: Answer) -> tuple[PortfolioRow | None, bytes]:
        """Store a portfolio.

        Args:
            new: What the row tells.
            blocks: The fleet.
            answer: Makes the answer that a repeated request gets.

        Returns:
            The row, None where the same request was answered meanwhile, and the answer.

        Raises:
            ServiceError: ALREADY_EXISTS, the tenant has a portfolio of this identifier.
        """
        base_id = new_set_id()
        with undone_on_failure(self._database, base_id):
            base_bytes = write_blocks(
                self._database, base_id, new.key.tenant_id, new.area_id, new.create_time_unix_us, blocks
            )
            return self._create(new, base_id, base_bytes, answer)

    def _create(
        self, new: NewPortfolio, base_id: str, base_bytes: int, answer: Answer
    ) -> tuple[PortfolioRow | None, bytes]:
        key = new.key
        with self._database.writing() as connection:
            earlier = _find_answer(connection, key)
            if earlier is not None:
                delete_blocks(connection, base_id)
                return None, earlier
            uid = str(uuid.uuid4())
            portfolio_id = new.portfolio_id or uid
            if _find(connection, key.tenant_id, portfolio_id) is not None:
                raise portfolio_exists(portfolio_id)
            common = common_values(key.tenant_id, new.area_id, new.create_time_unix_us)
            row: dict[str, Any] = {
                **common, **_values(new.figures),
                "portfolio_uid": uid, "sequence": next_sequence(connection, portfolios), "portfolio_id": portfolio_id,
                "currency_code": new.currency_code, "base_id": base_id, "base_version": 1, "base_bytes": base_bytes,
                "log_bytes": 0,
            }  # fmt: skip
            connection.execute(portfolios.insert(), row)
            made = PortfolioRow(**row)
            return made, self._answered(connection, key, made, answer, common)

    def update(
        self,
        key: RequestKey,
        before: PortfolioRow,
        figures: PortfolioFigures,
        parts: Sequence[bytes],
        now_unix_us: int,
        answer: Answer,
    ) -> tuple[PortfolioRow | None, bytes]:
        """Add a change to the log; without parts the version stays, and only the request is remembered.

        Returns:
            The new row, None where the same request was answered meanwhile, and the answer.

        Raises:
            VersionPassedError: The portfolio is no longer what it was `before`.
            ServiceError: NOT_FOUND.
        """
        with self._database.writing() as connection:
            earlier = _find_answer(connection, key)
            if earlier is not None:
                return None, earlier
            present = _find(connection, key.tenant_id, before.portfolio_id)
            if present is None:
                raise not_found("portfolio", before.portfolio_id)
            if present.etag != before.etag:
                raise VersionPassedError
            common = common_values(key.tenant_id, before.area_id, now_unix_us)
            if parts:
                present = self._advance(connection, present, figures, parts, common)
            return present, self._answered(connection, key, present, answer, common)

    def find(self, tenant_id: str, portfolio_id: str) -> PortfolioRow:
        """A portfolio's row.

        Raises:
            ServiceError: NOT_FOUND.
        """
        with self._database.reading() as connection:
            row = _find(connection, tenant_id, portfolio_id)
        if row is None:
            raise not_found("portfolio", portfolio_id)
        return row

    @contextmanager
    def opened(self, tenant_id: str, portfolio_id: str) -> Iterator[StoredPortfolio]:
        """A portfolio with all that it is made of, while one state of the database is seen.

        Raises:
            ServiceError: NOT_FOUND.
        """
        with self._database.reading() as connection:
            row = _find(connection, tenant_id, portfolio_id)
            if row is None:
                raise not_found("portfolio", portfolio_id)
            yield StoredPortfolio(row, connection)

    def page(
        self, tenant_id: str, before_sequence: int | None, size: int, areas: frozenset[str] | None
    ) -> list[PortfolioRow]:
        """At most `size` portfolios, newest first; those stored before `before_sequence` if given."""
        query = sa.select(portfolios).where(portfolios.c.tenant_id == tenant_id)
        rows = newest_first(self._database, query, portfolios, before_sequence, size, areas)
        return [PortfolioRow(**row._mapping) for row in rows]

    def replace_base(self, row: PortfolioRow, version: int, blocks: Iterator[bytes], now_unix_us: int) -> bool:
        """Write a version as the new base and forget the changes up to it; False if the portfolio is another by now."""
        base_id = new_set_id()
        with undone_on_failure(self._database, base_id):
            base_bytes = write_blocks(self._database, base_id, row.tenant_id, row.area_id, now_unix_us, blocks)
            return self._replace_base(row, version, base_id, base_bytes)

    def _replace_base(self, row: PortfolioRow, version: int, base_id: str, base_bytes: int) -> bool:
        with self._database.writing() as connection:
            present = _find(connection, row.tenant_id, row.portfolio_id)
            if present is None or present.portfolio_uid != row.portfolio_uid or present.base_id != row.base_id:
                delete_blocks(connection, base_id)
                return False
            table = portfolio_updates.c
            connection.execute(
                portfolio_updates.delete().where(table.portfolio_uid == row.portfolio_uid, table.version <= version)
            )
            left = sa.select(sa.func.sum(sa.func.length(table.data))).where(table.portfolio_uid == row.portfolio_uid)
            values = {
                "base_id": base_id, "base_version": version, "base_bytes": base_bytes,
                "log_bytes": int(connection.execute(left).scalar() or 0),
            }  # fmt: skip
            _set(connection, row.portfolio_uid, values)
            delete_blocks(connection, row.base_id)
            return True

    def delete(
        self,
        key: RequestKey,
        portfolio_id: str,
        etag: str,
        now_unix_us: int,
        *,
        may_use_area: Callable[[str], bool],
        check_only: bool,
    ) -> None:
        """Delete a portfolio; repeating the request succeeds without effect.

        Raises:
            ServiceError: NOT_FOUND, ABORTED for another etag, or ALREADY_EXISTS for a reused request id.
        """
        with self._database.writing() as connection:
            row = row_to_delete(
                connection, dispatch_requests, key, "portfolio", portfolio_id,
                lambda: _find(connection, key.tenant_id, portfolio_id), etag,
                may_use_area=may_use_area, check_only=check_only,
            )  # fmt: skip
            if row is None:
                return
            connection.execute(portfolios.delete().where(portfolios.c.portfolio_uid == row.portfolio_uid))
            connection.execute(portfolio_updates.delete().where(portfolio_updates.c.portfolio_uid == row.portfolio_uid))
            delete_blocks(connection, row.base_id)
            log_deletion(connection, dispatch_requests, key, row.area_id, portfolio_id, now_unix_us)
            self._retention.prune(connection, now_unix_us)

    def _advance(
        self,
        connection: sa.Connection,
        present: PortfolioRow,
        figures: PortfolioFigures,
        parts: Sequence[bytes],
        common: dict[str, object],
    ) -> PortfolioRow:
        version = present.version + 1
        for part, data in enumerate(parts):
            row = {**common, "portfolio_uid": present.portfolio_uid, "version": version, "part": part, "data": data}
            connection.execute(portfolio_updates.insert(), row)
        values = {
            **_values(figures), "version": version, "etag": new_etag(),
            "update_time_unix_us": common["update_time_unix_us"],
            "log_bytes": present.log_bytes + sum(map(len, parts)),
        }  # fmt: skip
        _set(connection, present.portfolio_uid, values)
        advanced = _find(connection, present.tenant_id, present.portfolio_id)
        assert advanced is not None
        return advanced

    def _answered(
        self, connection: sa.Connection, key: RequestKey, row: PortfolioRow, answer: Answer, common: dict[str, object]
    ) -> bytes:
        answered = answer(row)
        values = {**common, "resource_id": row.portfolio_id, "answer": answered}
        log_request(connection, dispatch_requests, key, values)
        self._retention.prune(connection, int(str(common["create_time_unix_us"])))
        return answered


def portfolio_exists(portfolio_id: str) -> ServiceError:
    """ALREADY_EXISTS for an identifier that the tenant has used."""
    return ServiceError(
        code_pb2.ALREADY_EXISTS, "PORTFOLIO_EXISTS", f"there is a portfolio {portfolio_id[:100]!r} already"
    )


def _find_answer(connection: sa.Connection, key: RequestKey) -> bytes | None:
    request = find_request(connection, dispatch_requests, key)
    return None if request is None else bytes(request.answer)


def _find(connection: sa.Connection, tenant_id: str, portfolio_id: str) -> PortfolioRow | None:
    query = sa.select(portfolios).where(portfolios.c.tenant_id == tenant_id, portfolios.c.portfolio_id == portfolio_id)
    row = connection.execute(query).first()
    return None if row is None else PortfolioRow(**row._mapping)


def _set(connection: sa.Connection, portfolio_uid: str, values: dict[str, Any]) -> None:
    connection.execute(portfolios.update().where(portfolios.c.portfolio_uid == portfolio_uid).values(values))


def _values(figures: PortfolioFigures) -> dict[str, object]:
    return {
        "asset_count": figures.asset_count,
        "profile_count": figures.profile_count,
        "resident_bytes": figures.resident_bytes,
        "head": figures.head,
    }
