"""A vehicle at a charge point."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from evflex.activation.v1 import activation_service_pb2 as pb
from evflex.activation.v1 import resource_pb2
from evflex.client.activation.whole import FieldWriter, optional_in_thousands
from evflex.client.moments import timestamp


@dataclass(frozen=True, slots=True)
class Session:
    """A session.

    Attributes:
        session_id: Identifier; a session can be sold under it like a resource.
        ev_resource_id: The vehicle.
        charge_point_resource_id: The charge point.
        start_time: When it was plugged in (UTC).
        end_time: When it was unplugged (UTC); None while it is plugged in.
        energy_kwh: Energy in kWh, grid-side, that it is to get between start and departure; None where not known.
        departure_time: When it is to leave (UTC); None where not known.
        max_charge_kw: Most that it can draw in kW; None where not known.
        suspended_commitment_ids: Commitments of the caller that were suspended when it was opened.
        truncated_commitment_ids: Commitments of the caller that end earlier since it was closed.
        tenant_id: Tenant that opened it.
        area_id: Grid area of the charge point.
        etag: Changes with every change.
        sequence: Number of its last change in the ledger.
        create_time: When it was made (UTC).
        update_time: When it was changed last (UTC).
    """

    session_id: str
    ev_resource_id: str
    charge_point_resource_id: str
    start_time: pd.Timestamp | None
    end_time: pd.Timestamp | None
    energy_kwh: float | None
    departure_time: pd.Timestamp | None
    max_charge_kw: float | None
    suspended_commitment_ids: tuple[str, ...]
    truncated_commitment_ids: tuple[str, ...]
    tenant_id: str
    area_id: str
    etag: str
    sequence: int
    create_time: pd.Timestamp | None
    update_time: pd.Timestamp | None

    @classmethod
    def from_message(
        cls, message: resource_pb2.Session, *, suspended: Sequence[str] = (), truncated: Sequence[str] = ()
    ) -> Session:
        """Read a session of the contract."""
        return cls(
            session_id=message.session_id,
            ev_resource_id=message.ev_resource_id,
            charge_point_resource_id=message.charge_point_resource_id,
            start_time=timestamp(message, "start_time"),
            end_time=timestamp(message, "end_time"),
            energy_kwh=optional_in_thousands(message, "energy_wh"),
            departure_time=timestamp(message, "departure_time"),
            max_charge_kw=optional_in_thousands(message, "max_charge_w"),
            suspended_commitment_ids=tuple(suspended),
            truncated_commitment_ids=tuple(truncated),
            tenant_id=message.tenant_id,
            area_id=message.area_id,
            etag=message.etag,
            sequence=message.sequence,
            create_time=timestamp(message, "create_time"),
            update_time=timestamp(message, "update_time"),
        )


def opening(
    ev_resource_id: str,
    charge_point_resource_id: str,
    start_time: datetime,
    session_id: str,
    energy_kwh: float | None,
    departure_time: datetime | None,
    max_charge_kw: float | None,
    validate_only: bool,
    request_id: str,
) -> pb.OpenSessionRequest:
    """Write the begin of a session of the contract; parameters as in ``EvflexClient.open_session``.

    Raises:
        InvalidRequestError: Something cannot be written; each field is named.
    """
    write = FieldWriter()
    session = resource_pb2.Session(
        session_id=session_id,
        ev_resource_id=ev_resource_id,
        charge_point_resource_id=charge_point_resource_id,
        start_time=write.instant(start_time, "start_time"),
        # a need that is larger, and a charger that is smaller, leave less to be sold
        energy_wh=write.up(energy_kwh, "energy_kwh"),
        departure_time=write.instant(departure_time, "departure_time"),
        max_charge_w=write.down(max_charge_kw, "max_charge_kw"),
    )
    write.check()
    return pb.OpenSessionRequest(
        request_id=request_id or str(uuid.uuid4()), session=session, validate_only=validate_only
    )


def closing(
    session_id: str, end_time: datetime | None, etag: str, validate_only: bool, request_id: str
) -> pb.CloseSessionRequest:
    """Write the end of a session of the contract; parameters as in ``EvflexClient.close_session``.

    Raises:
        InvalidRequestError: The end has no time zone, or is no whole millisecond.
    """
    write = FieldWriter()
    end = write.instant(end_time, "end_time")
    write.check()
    return pb.CloseSessionRequest(
        request_id=request_id or str(uuid.uuid4()),
        session_id=session_id,
        end_time=end,
        etag=etag,
        validate_only=validate_only,
    )
