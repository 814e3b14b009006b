"""Agreements, their audit and bookings of the store as messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from evflex.capacity.v1 import agreement_pb2
from evflex.common.v1 import time_grid_pb2
from evflex.server.messages import set_timestamp, timestamp
from evflex.server.store.agreements import AgreementAction, AgreementRow, AgreementState, EventRow, TermsRow
from evflex.server.store.bookings import BookingKind, BookingRow


def agreement(row: AgreementRow, terms: TermsRow, events: Sequence[EventRow] = ()) -> agreement_pb2.Agreement:
    """An agreement with one version of its terms.

    Args:
        row: Its head.
        terms: The version.
        events: Its audit, needed where the version is neither the last nor the one in force.
    """
    message = agreement_pb2.Agreement.FromString(terms.terms)
    message.agreement_id = row.agreement_id
    message.hub_id = row.hub_id
    message.transformer_id = row.transformer_id
    message.dso_party, message.cpo_party = row.parties
    message.state = cast("agreement_pb2.AgreementState", int(_state(row, terms.version)))
    message.version = terms.version
    message.proposed_by = terms.proposed_by
    message.accepted_by.append(terms.proposed_by)
    if terms.version == row.active_version or _was_accepted(events, terms.version):
        message.accepted_by.append(next(party for party in row.parties if party != terms.proposed_by))
    message.area_id = row.area_id
    message.etag = row.etag
    set_timestamp(message.create_time, row.create_time_unix_us)
    set_timestamp(message.update_time, row.update_time_unix_us)
    message.tenant_id = row.tenant_id
    return message


def event(row: EventRow) -> agreement_pb2.AgreementEvent:
    """A line of an agreement's audit."""
    return agreement_pb2.AgreementEvent(
        event_time=timestamp(row.create_time_unix_us),
        action=cast("agreement_pb2.AgreementAction", row.action),
        party=row.party,
        version=row.version,
        request_id=row.request_id,
    )


def booking(row: BookingRow) -> agreement_pb2.Booking:
    """A booking."""
    power_kw = row.series.power_kw.tolist()
    firm = row.kind == BookingKind.FIRM
    return agreement_pb2.Booking(
        booking_id=row.booking_id,
        hub_id=row.hub_id,
        agreement_id=row.agreement_id,
        transformer_id=row.transformer_id,
        time_grid=time_grid_pb2.TimeGrid.FromString(row.time_grid),
        firm_kw=power_kw if firm else (),
        conditional_kw=() if firm else power_kw,
        released=bool(row.released),
        booked_by=row.booked_by,
        tenant_id=row.tenant_id,
        area_id=row.area_id,
        etag=row.etag,
        create_time=timestamp(row.create_time_unix_us),
        update_time=timestamp(row.update_time_unix_us),
    )


def _state(row: AgreementRow, version: int) -> AgreementState:
    """State of one version: one that another has replaced has ended."""
    if version == row.pending_version:
        return AgreementState.PROPOSED
    in_force = row.state == AgreementState.ACTIVE and version == row.active_version
    return AgreementState.ACTIVE if in_force else AgreementState.ENDED


def _was_accepted(events: Sequence[EventRow], version: int) -> bool:
    return any(line.action == AgreementAction.ACCEPTED and line.version == version for line in events)
