"""Calls about agreements and bookings, synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.capacity import operations
from evflex.client.capacity.agreement import Agreement, AgreementTerms, agreements_query, proposal
from evflex.client.capacity.booking import Booking, booking_request
from evflex.client.steps import PerStep
from evflex.client.timegrid import TimeGrid
from evflex.client.transport import Transport


class AgreementCalls:
    """Agreements and bookings; who calls is told by the connection, and both are seen by their two parties only."""

    _transport: Transport

    def propose_agreement(
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
        """Propose an agreement, or other terms for one that exists; the caller has accepted with that.

        Args:
            hub_id: Hub that it is about.
            terms: What the hub is entitled to.
            transformer_id: Transformer that feeds the hub.
            dso_party: Tenant of the distribution system operator.
            cpo_party: Tenant of the charge point operator. The caller is one of the two.
            agreement_id: Agreement that gets other terms; hub, transformer and parties stay. Empty is a new one.
            etag: When not empty, propose other terms only if the stored agreement has the same.
            area_id: Grid area of the hub.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The terms break rules.
            NotPermittedError: The caller is none of the parties.
            ConflictError: The etag differs.
        """
        request = proposal(
            hub_id, terms, transformer_id, dso_party, cpo_party, agreement_id, etag, area_id, validate_only, request_id
        )
        answer = self._transport.unary(operations.PROPOSE_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement)

    def accept_agreement(
        self,
        agreement_id: str,
        version: int,
        *,
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Agreement:
        """Accept the proposed version of an agreement, as the other party.

        Args:
            agreement_id: Agreement.
            version: Version whose terms the caller has seen; must be the proposed one.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such agreement of the caller.
            ConflictError: Another version is proposed, or none is.
        """
        request = pb.AcceptAgreementRequest(
            request_id=request_id or str(uuid.uuid4()),
            agreement_id=agreement_id,
            version=version,
            validate_only=validate_only,
        )
        answer = self._transport.unary(operations.ACCEPT_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement)

    def end_agreement(
        self,
        agreement_id: str,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Agreement:
        """End an agreement, or decline a proposal; its bookings from then on are released.

        Args:
            agreement_id: Agreement.
            etag: When not empty, end it only if the stored one is the same.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such agreement of the caller.
            ConflictError: The etag differs.
        """
        request = pb.EndAgreementRequest(
            request_id=request_id or str(uuid.uuid4()),
            agreement_id=agreement_id,
            etag=etag,
            validate_only=validate_only,
        )
        answer = self._transport.unary(operations.END_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement)

    def get_agreement(self, agreement_id: str, *, version: int = 0, timeout_s: float | None = None) -> Agreement:
        """Fetch an agreement with its audit in ``events``.

        Args:
            agreement_id: Agreement.
            version: Version; 0 means the one in force, or the last where none is.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such agreement of the caller, or no such version.
        """
        request = pb.GetAgreementRequest(agreement_id=agreement_id, version=version)
        answer = self._transport.unary(operations.GET_AGREEMENT, request, timeout_s)
        return Agreement.from_message(answer.agreement, answer.events)

    def list_agreements(
        self,
        hub_id: str = "",
        *,
        transformer_id: str = "",
        state: str = "",
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> Iterator[Agreement]:
        """List agreements of the caller, newest first; further pages are fetched as they are needed.

        Args:
            hub_id: Only of this hub; empty means all.
            transformer_id: Only of this transformer; empty means all.
            state: Only ``PROPOSED``, ``ACTIVE`` or ``ENDED`` ones; empty means all.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.

        Raises:
            InvalidRequestError: The state is unknown.
        """
        request = agreements_query(hub_id, transformer_id, state, page_size)
        for page in self._transport.pages(operations.LIST_AGREEMENTS, request, timeout_s):
            yield from map(Agreement.from_message, page.agreements)

    def book_capacity(
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
        """Book capacity under an active agreement, all of it or nothing.

        Args:
            hub_id: Hub of the agreement.
            agreement_id: Agreement; the caller is one of its parties.
            firm_kw: Firm capacity in kW by step, a number holds for all steps. Or:
            conditional_kw: Conditional capacity in kW by step.
            time_grid: Time axis; None takes the time index of the capacity.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            ConflictError: There is not so much left; the message and ``facts`` say what is.
            InvalidRequestError: The booking breaks rules.
        """
        request = booking_request(hub_id, agreement_id, firm_kw, conditional_kw, time_grid, validate_only, request_id)
        return Booking.from_message(self._transport.unary(operations.BOOK_CAPACITY, request, timeout_s).booking)

    def release_booking(
        self,
        booking_id: str,
        *,
        etag: str = "",
        validate_only: bool = False,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Booking:
        """Release a booking, as either party of its agreement.

        Args:
            booking_id: Booking.
            etag: When not empty, release it only if the stored one is the same.
            validate_only: Only check.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such booking of the caller.
            ConflictError: The etag differs.
        """
        request = pb.ReleaseBookingRequest(
            request_id=request_id or str(uuid.uuid4()), booking_id=booking_id, etag=etag, validate_only=validate_only
        )
        return Booking.from_message(self._transport.unary(operations.RELEASE_BOOKING, request, timeout_s).booking)

    def list_bookings(
        self,
        hub_id: str = "",
        *,
        agreement_id: str = "",
        include_released: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> Iterator[Booking]:
        """List bookings under agreements of the caller, newest first; further pages are fetched as they are needed.

        Args:
            hub_id: Only of this hub; empty means all.
            agreement_id: Only of this agreement; empty means all.
            include_released: Also those released.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListBookingsRequest(
            hub_id=hub_id, agreement_id=agreement_id, include_released=include_released, page_size=page_size
        )
        for page in self._transport.pages(operations.LIST_BOOKINGS, request, timeout_s):
            yield from map(Booking.from_message, page.bookings)
