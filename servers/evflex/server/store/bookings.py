"""Stored bookings of capacity: made, released, and found by time."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import sqlalchemy as sa

from evflex.engine.capacity.booking import StepSeries
from evflex.engine.supply_tree import FloatArray
from evflex.engine.timegrid import TimeGrid
from evflex.server.store.agreements import AgreementRow
from evflex.server.store.arrays import pack_doubles, unpack_doubles
from evflex.server.store.paging import next_sequence
from evflex.server.store.requests import common_values, may_be_uuid, new_etag
from evflex.server.store.tables import bookings


class BookingKind(IntEnum):
    """What capacity is booked."""

    FIRM = 1
    CONDITIONAL = 2


@dataclass(frozen=True, slots=True)
class NewBooking:
    """A booking to be stored.

    Attributes:
        agreement: Agreement that it is under.
        booked_by: Party that books.
        kind: What is booked.
        grid: Time axis.
        time_grid: The same as a message, exactly as it was sent.
        power_kw: Power in each step, (T,).
    """

    agreement: AgreementRow
    booked_by: str
    kind: BookingKind
    grid: TimeGrid
    time_grid: bytes
    power_kw: FloatArray


@dataclass(frozen=True, slots=True)
class BookingRow:
    """A row of the store; `tenant_id` is the system operator."""

    booking_id: str
    tenant_id: str
    area_id: str
    version: int
    etag: str
    create_time_unix_us: int
    update_time_unix_us: int
    sequence: int
    agreement_id: str
    cpo_party: str
    hub_id: str
    transformer_id: str
    booked_by: str
    kind: int
    released: int
    start_unix_s: float
    end_unix_s: float
    step_s: float
    step_count: int
    time_grid: bytes
    power_kw: bytes

    @property
    def parties(self) -> tuple[str, str]:
        """System operator and charge point operator."""
        return self.tenant_id, self.cpo_party

    @property
    def series(self) -> StepSeries:
        """Power on its time axis."""
        return StepSeries(TimeGrid(self.start_unix_s, self.step_s, self.step_count), unpack_doubles(self.power_kw))


class BookingRows:
    """Bookings as one transaction sees and changes them."""

    def __init__(self, connection: sa.Connection) -> None:
        """Work in the transaction of `connection`."""
        self._connection = connection

    def find(self, booking_id: str) -> BookingRow | None:
        """A booking."""
        if not may_be_uuid(booking_id):
            return None
        row = self._connection.execute(sa.select(bookings).where(bookings.c.booking_id == booking_id)).first()
        return None if row is None else BookingRow(**row._mapping)

    def on_transformer(self, tenant_id: str, transformer_id: str, window: TimeGrid) -> list[BookingRow]:
        """Bookings of a system operator's transformer that share time with a window and are not released."""
        query = sa.select(bookings).where(
            bookings.c.tenant_id == tenant_id,
            bookings.c.transformer_id == transformer_id,
            bookings.c.released == 0,
            bookings.c.end_unix_s > window.start_unix_s,
            bookings.c.start_unix_s < window.end_unix_s,
        )
        return [BookingRow(**row._mapping) for row in self._connection.execute(query)]

    def open_steps(self, agreement_id: str, now_unix_us: int) -> int:
        """Steps of all bookings of an agreement that are neither released nor over."""
        query = sa.select(sa.func.sum(bookings.c.step_count)).where(*_open(agreement_id, now_unix_us))
        return int(self._connection.execute(query).scalar() or 0)

    def create(self, new: NewBooking, now_unix_us: int) -> BookingRow:
        """Store a booking."""
        agreement, grid = new.agreement, new.grid
        values: dict[str, Any] = {
            **common_values(agreement.tenant_id, agreement.area_id, now_unix_us),
            "booking_id": str(uuid.uuid4()), "sequence": next_sequence(self._connection, bookings),
            "agreement_id": agreement.agreement_id, "cpo_party": agreement.cpo_party, "hub_id": agreement.hub_id,
            "transformer_id": agreement.transformer_id, "booked_by": new.booked_by, "kind": int(new.kind),
            "released": 0, "start_unix_s": grid.start_unix_s, "end_unix_s": grid.end_unix_s, "step_s": grid.step_s,
            "step_count": grid.step_count, "time_grid": new.time_grid, "power_kw": pack_doubles(new.power_kw),
        }  # fmt: skip
        self._connection.execute(bookings.insert(), values)
        return BookingRow(**values)

    def release(self, row: BookingRow, now_unix_us: int) -> BookingRow:
        """Release a booking; one that is released already stays as it is."""
        if row.released:
            return row
        released = replace(row, released=1, version=row.version + 1, etag=new_etag(), update_time_unix_us=now_unix_us)
        values = {"released": 1, "version": released.version, "etag": released.etag, "update_time_unix_us": now_unix_us}
        self._connection.execute(bookings.update().where(bookings.c.booking_id == row.booking_id).values(values))
        return released

    def release_open(self, agreement_id: str, now_unix_us: int) -> None:
        """Release all bookings of an agreement that are not over."""
        query = bookings.update().where(*_open(agreement_id, now_unix_us))
        values = {
            "released": 1, "version": bookings.c.version + 1, "etag": new_etag(), "update_time_unix_us": now_unix_us,
        }  # fmt: skip
        self._connection.execute(query.values(values))


def bookings_of(
    party: str, *, hub_id: str = "", agreement_id: str = "", include_released: bool = False
) -> sa.Select[Any]:
    """Query of the bookings under a party's agreements; empty arguments mean all."""
    query = sa.select(bookings).where(sa.or_(bookings.c.tenant_id == party, bookings.c.cpo_party == party))
    if hub_id:
        query = query.where(bookings.c.hub_id == hub_id)
    if agreement_id:
        query = query.where(bookings.c.agreement_id == agreement_id)
    if not include_released:
        query = query.where(bookings.c.released == 0)
    return query


def _open(agreement_id: str, now_unix_us: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        bookings.c.agreement_id == agreement_id,
        bookings.c.released == 0,
        bookings.c.end_unix_s > now_unix_us * 1e-6,
    )
