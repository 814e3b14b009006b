"""Calls about agreements and bookings, asynchronous: the twin of :mod:`evflex.client.capacity.sync_agreements`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.aio_transport import AsyncTransport
from evflex.client.capacity import operations
from evflex.client.capacity.agreement import Agreement, AgreementTerms, agreements_query, proposal
from evflex.client.capacity.booking import Booking, booking_request
from evflex.client.steps import PerStep
from evflex.client.timegrid import TimeGrid


class AsyncAgreementCalls:
    """Agreements and bookings, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.capacity.sync_agreements.AgreementCalls`.
    """

    _transport: AsyncTransport

    async def propose_agreement(
        self,
        hub_id: str,
        terms: AgreementTerms,
        *,
        transformer_id: str,
        dso_party: str,
        cpo_party: str,
        agreement_id: str = "",
        etag: str = "",
        area_id: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Agreement:
        """Propose an agreement, or other terms for one that exists; the caller has accepted with that."""
        request = proposal(
            hub_id, terms, transformer_id, dso_party, cpo_party, agreement_id, etag, area_id, validate_only, request_id
        )
        answer = await self._transport.unary(operations.PROPOSE_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement)

    async def accept_agreement(
        self,
        agreement_id: str,
        version: int,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Agreement:
        """Accept the proposed version of an agreement, as the other party."""
        request = pb.AcceptAgreementRequest(
            request_id=request_id or str(uuid.uuid4()),
            agreement_id=agreement_id,
            version=version,
            validate_only=validate_only,
        )
        answer = await self._transport.unary(operations.ACCEPT_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement)

    async def end_agreement(
        self,
        agreement_id: str,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Agreement:
        """End an agreement, or decline a proposal; its bookings from then on are released."""
        request = pb.EndAgreementRequest(
            request_id=request_id or str(uuid.uuid4()),
            agreement_id=agreement_id,
            etag=etag,
            validate_only=validate_only,
        )
        answer = await self._transport.unary(operations.END_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement)

    async def get_agreement(self, agreement_id: str, *, version: int = 0, timeout_s: float | None = None) -> Agreement:
        """Fetch an agreement with its audit in ``events``."""
        request = pb.GetAgreementRequest(agreement_id=agreement_id, version=version)
        answer = await self._transport.unary(operations.GET_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement, answer.events)

    async def list_agreements(
        self,
        hub_id: str = "",
        *,
        transformer_id: str = "",
        state: str = "",
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Agreement]:
        """List agreements of the caller, newest first; further pages are fetched as they are needed."""
        request = agreements_query(hub_id, transformer_id, state, page_size)
        async for page in self._transport.pages(operations.LIST_AGREEMENTS, request, timeout_s):
            for message in page.agreements:
                yield Agreement.from_message(message)

    async def book_capacity(
        self,
        hub_id: str,
        agreement_id: str,
        *,
        firm_kw: PerStep | None = None,
        conditional_kw: PerStep | None = None,
        time_grid: TimeGrid | None = None,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Booking:
        """Book capacity under an active agreement, all of it or nothing."""
        request = booking_request(hub_id, agreement_id, firm_kw, conditional_kw, time_grid, validate_only, request_id)
        return Booking.from_message((await self._transport.unary(operations.BOOK_CAPACITY, request, timeout_s)).booking)

    async def release_booking(
        self,
        booking_id: str,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Booking:
        """Release a booking, as either party of its agreement."""
        request = pb.ReleaseBookingRequest(
            request_id=request_id or str(uuid.uuid4()), booking_id=booking_id, etag=etag, validate_only=validate_only
        )
        return Booking.from_message(
            (await self._transport.unary(operations.RELEASE_BOOKING, request, timeout_s)).booking
        )

    async def list_bookings(
        self,
        hub_id: str = "",
        *,
        agreement_id: str = "",
        include_released: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Booking]:
        """List bookings under agreements of the caller, newest first; further pages are fetched as they are needed."""
        request = pb.ListBookingsRequest(
            hub_id=hub_id, agreement_id=agreement_id, include_released=include_released, page_size=page_size
        )
        async for page in self._transport.pages(operations.LIST_BOOKINGS, request, timeout_s):
            for message in page.bookings:
                yield Booking.from_message(message)
