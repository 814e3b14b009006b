"""Capacity that a hub has booked."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import pandas as pd

from evflex.capacity.v1 import agreement_pb2
from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.capacity.axis import every_step, time_axis
from evflex.client.errors import InvalidRequestError, Violation
from evflex.client.moments import timestamp
from evflex.client.steps import PerStep, by_time
from evflex.client.timegrid import TimeGrid


@dataclass(frozen=True, slots=True, eq=False)
class Booking:
    """A booking under an agreement; one of the two powers is empty.

    Attributes:
        booking_id: Identifier.
        hub_id: Hub.
        agreement_id: Agreement that it is under.
        transformer_id: Transformer of the agreement.
        time_grid: Time axis.
        firm_kw: Firm capacity in kW by step (UTC).
        conditional_kw: Conditional capacity in kW by step (UTC).
        released: Whether it was released.
        booked_by: Tenant that booked it.
        tenant_id: Owner of the record.
        area_id: Grid area of the agreement.
        etag: Changes with every change.
        create_time: When it was made (UTC).
        update_time: When it was changed last (UTC).
    """

    booking_id: str
    hub_id: str
    agreement_id: str
    transformer_id: str
    time_grid: TimeGrid
    firm_kw: pd.Series
    conditional_kw: pd.Series
    released: bool
    booked_by: str
    tenant_id: str
    area_id: str
    etag: str
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @classmethod
    def from_message(cls, message: agreement_pb2.Booking) -> Booking:
        """Read a booking of the contract."""
        grid = TimeGrid.from_message(message.time_grid)
        return cls(
            booking_id=message.booking_id,
            hub_id=message.hub_id,
            agreement_id=message.agreement_id,
            transformer_id=message.transformer_id,
            time_grid=grid,
            firm_kw=by_time(message.firm_kw, grid.index, "firm_kw"),
            conditional_kw=by_time(message.conditional_kw, grid.index, "conditional_kw"),
            released=message.released,
            booked_by=message.booked_by,
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )


def booking_request(
    hub_id: str,
    agreement_id: str,
    firm_kw: PerStep | None,
    conditional_kw: PerStep | None,
    time_grid: TimeGrid | None,
    validate_only: bool,
    request_id: str,
) -> pb.BookCapacityRequest:
    """Write a booking of the contract; parameters as in ``EvflexClient.book_capacity``.

    Raises:
        InvalidRequestError: There is no time axis, or a power is no number.
    """
    message = pb.BookCapacityRequest(
        request_id=request_id or str(uuid.uuid4()),
        hub_id=hub_id,
        agreement_id=agreement_id,
        validate_only=validate_only,
    )
    violations: list[Violation] = []
    try:
        grid = time_axis(time_grid, firm_kw, conditional_kw)
        message.time_grid.CopyFrom(grid.to_message())
        for values, field in ((firm_kw, message.firm_kw), (conditional_kw, message.conditional_kw)):
            if values is not None:
                field.extend(every_step(values, grid.step_count))
    except (TypeError, ValueError) as error:
        violations.append(Violation("time_grid", str(error)))
    if violations:
        raise InvalidRequestError.before_sending(violations)
    return message
