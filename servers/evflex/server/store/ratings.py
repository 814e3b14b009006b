"""Stored ratings of transformers, whose headroom bookings are held against."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from evflex.engine.capacity.booking import StepSeries
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.server.store.arrays import pack_doubles, unpack_doubles
from evflex.server.store.database import Database
from evflex.server.store.paging import next_sequence
from evflex.server.store.requests import RequestKey, common_values, find_request, log_request
from evflex.server.store.retention import Retention
from evflex.server.store.tables import capacity_requests, transformer_ratings


@dataclass(frozen=True, slots=True)
class NewRating:
    """A rating to be stored.

    Attributes:
        key: The request that made it; its tenant is the system operator.
        area_id: Grid area.
        transformer_id: Transformer.
        grid: Time axis.
        headroom_n_kva: Headroom in each step in its own condition, (T,).
        headroom_n1_kva: Headroom in each step in N-1, (T,).
        payload: Whole message, compressed.
        create_time_unix_us: When it was made, microseconds since 1970-01-01 UTC.
    """

    key: RequestKey
    area_id: str
    transformer_id: str
    grid: TimeGrid
    headroom_n_kva: FloatArray
    headroom_n1_kva: FloatArray
    payload: bytes
    create_time_unix_us: int


@dataclass(frozen=True, slots=True)
class RatingRow:
    """A row of the store."""

    rating_id: str
    tenant_id: str
    area_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    transformer_id: str
    start_unix_s: float
    end_unix_s: float
    step_s: float
    step_count: int
    headroom_n_kva: bytes
    headroom_n1_kva: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class RatingHead:
    """What tells whether a rating is needed."""

    rating_id: str
    grid: TimeGrid


@dataclass(frozen=True, slots=True)
class Headroom:
    """Headroom of a rating in kVA, each step in its own condition, and in N-1."""

    normal: StepSeries
    contingency: StepSeries


class RatingStore:
    """Ratings of all tenants."""

    def __init__(self, database: Database, retention: Retention) -> None:
        """Work on `database`, and forget what `retention` says is too old."""
        self._database = database
        self._retention = retention

    def save(self, new: NewRating) -> tuple[RatingRow, bool]:
        """Store a rating; from now on it holds in place of earlier ones where their times overlap.

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
                "rating_id": str(uuid.uuid4()), "sequence": next_sequence(connection, transformer_ratings),
                "transformer_id": new.transformer_id, "start_unix_s": new.grid.start_unix_s,
                "end_unix_s": new.grid.end_unix_s, "step_s": new.grid.step_s, "step_count": new.grid.step_count,
                "headroom_n_kva": pack_doubles(new.headroom_n_kva),
                "headroom_n1_kva": pack_doubles(new.headroom_n1_kva), "payload": new.payload,
            }  # fmt: skip
            connection.execute(transformer_ratings.insert(), row)
            log_request(
                connection, capacity_requests, new.key, {**common, "resource_id": row["rating_id"], "answer": b""}
            )
            self._retention.prune(connection, new.create_time_unix_us)
            return RatingRow(**row), True

    def find_answer(self, key: RequestKey) -> RatingRow | None:
        """The rating that an earlier request with this id and payload got.

        Raises:
            ServiceError: The id was used for another payload.
        """
        with self._database.reading() as connection:
            return _find_answer(connection, key)


class RatingRows:
    """Ratings as one transaction sees them."""

    def __init__(self, connection: sa.Connection) -> None:
        """Work in the transaction of `connection`."""
        self._connection = connection

    def heads(self, tenant_id: str, transformer_id: str, window: TimeGrid) -> list[RatingHead]:
        """Ratings of a system operator's transformer that share time with a window, newest first."""
        table = transformer_ratings.c
        query = (
            sa.select(table.rating_id, table.start_unix_s, table.step_s, table.step_count)
            .where(
                table.tenant_id == tenant_id,
                table.transformer_id == transformer_id,
                table.end_unix_s > window.start_unix_s,
                table.start_unix_s < window.end_unix_s,
            )
            .order_by(table.sequence.desc())
        )
        return [
            RatingHead(row.rating_id, TimeGrid(row.start_unix_s, row.step_s, row.step_count))
            for row in self._connection.execute(query)
        ]

    def headroom(self, heads: Sequence[RatingHead]) -> list[Headroom]:
        """Headroom of each rating."""
        table = transformer_ratings.c
        query = sa.select(table.headroom_n_kva, table.headroom_n1_kva)
        found = []
        for head in heads:
            row = self._connection.execute(query.where(table.rating_id == head.rating_id)).one()
            normal, contingency = unpack_doubles(row.headroom_n_kva), unpack_doubles(row.headroom_n1_kva)
            found.append(Headroom(StepSeries(head.grid, normal), StepSeries(head.grid, contingency)))
        return found


def _find_answer(connection: sa.Connection, key: RequestKey) -> RatingRow | None:
    request = find_request(connection, capacity_requests, key)
    if request is None:
        return None
    query = sa.select(transformer_ratings).where(transformer_ratings.c.rating_id == request.resource_id)
    return RatingRow(**connection.execute(query).one()._mapping)
