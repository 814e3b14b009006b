"""Agreements, bookings and ratings in one transaction, and requests that are answered once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from evflex.server.store.agreements import AgreementRow, AgreementRows, TermsRow, agreements_of, shown_row
from evflex.server.store.bookings import BookingRow, BookingRows, bookings_of
from evflex.server.store.database import Database
from evflex.server.store.paging import newest_first
from evflex.server.store.ratings import RatingRows
from evflex.server.store.requests import RequestKey, common_values, find_request, log_request
from evflex.server.store.retention import Retention
from evflex.server.store.tables import agreements, bookings, capacity_requests


@dataclass(frozen=True, slots=True)
class CapacityRows:
    """What one transaction sees and changes."""

    agreements: AgreementRows
    bookings: BookingRows
    ratings: RatingRows

    @classmethod
    def of(cls, connection: sa.Connection) -> CapacityRows:
        """All of a connection's transaction."""
        return cls(AgreementRows(connection), BookingRows(connection), RatingRows(connection))


@dataclass(frozen=True, slots=True)
class Change:
    """What a request has changed.

    Attributes:
        resource_id: Identifier of what it changed.
        area_id: Grid area of that.
        answer: Message that a repeated request gets.
    """

    resource_id: str
    area_id: str
    answer: bytes


@dataclass(frozen=True, slots=True)
class ShownAgreement:
    """An agreement in the version that lists show."""

    row: AgreementRow
    terms: TermsRow

    @property
    def sequence(self) -> int:
        """Number by which it was stored."""
        return self.row.sequence


class CapacityStore:
    """Agreements and bookings of all tenants; who may see a row is for the caller of these methods to check."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    @contextmanager
    def reading(self) -> Iterator[CapacityRows]:
        """One state of the database."""
        with self._database.reading() as connection:
            yield CapacityRows.of(connection)

    def once(self, key: RequestKey, now_unix_us: int, change: Callable[[CapacityRows], Change]) -> bytes:
        """Make a change in the turn to write, all of it or, when it raises, nothing.

        Returns:
            The answer, or that of an earlier request with the same id and payload, for which nothing is changed.

        Raises:
            ServiceError: The id was used for another payload, or what `change` raises.
        """
        with self._database.writing() as connection:
            earlier = find_request(connection, capacity_requests, key)
            if earlier is not None:
                return bytes(earlier.answer)
            changed = change(CapacityRows.of(connection))
            values = {
                **common_values(key.tenant_id, changed.area_id, now_unix_us),
                "resource_id": changed.resource_id, "answer": changed.answer,
            }  # fmt: skip
            log_request(connection, capacity_requests, key, values)
            self._retention.prune(connection, now_unix_us)
            return changed.answer

    def check(self, change: Callable[[CapacityRows], Change]) -> None:
        """Only raise what a change would raise: it is made, and taken back.

        Raises:
            ServiceError: What `change` raises.
        """
        try:
            with self._database.writing() as connection:
                change(CapacityRows.of(connection))
                raise _TakenBackError
        except _TakenBackError:
            pass

    def agreements_page(
        self,
        party: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
        *,
        hub_id: str,
        transformer_id: str,
        state: int,
    ) -> list[ShownAgreement]:
        """At most `size` agreements of a party, newest first; those stored before `before_sequence` if given."""
        query = agreements_of(party, hub_id=hub_id, transformer_id=transformer_id, state=state)
        rows = newest_first(self._database, query, agreements, before_sequence, size, areas)
        return [ShownAgreement(*shown_row(row)) for row in rows]

    def bookings_page(
        self,
        party: str,
        before_sequence: int | None,
        size: int,
        areas: frozenset[str] | None,
        *,
        hub_id: str,
        agreement_id: str,
        include_released: bool,
    ) -> list[BookingRow]:
        """At most `size` bookings under a party's agreements, newest first; before `before_sequence` if given."""
        query = bookings_of(party, hub_id=hub_id, agreement_id=agreement_id, include_released=include_released)
        rows = newest_first(self._database, query, bookings, before_sequence, size, areas)
        return [BookingRow(**row._mapping) for row in rows]


class _TakenBackError(Exception):
    """Ends a transaction without a trace."""
