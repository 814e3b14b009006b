"""RPCs of bookings, each in a few lines."""

from __future__ import annotations

import grpc

from evflex.capacity.v1 import capacity_service_pb2
from evflex.engine.validation import Rules
from evflex.server.calls import current_call
from evflex.server.capacity import shown_agreement
from evflex.server.capacity.bookings import Bookings
from evflex.server.fields import check_id, refuse
from evflex.server.pages import check_page_size, page_of


class BookingRpcs:
    """The part of CapacityService that is about bookings."""

    def __init__(self, bookings: Bookings) -> None:
        """Serve these bookings."""
        self._bookings = bookings

    def BookCapacity(  # noqa: N802
        self, request: capacity_service_pb2.BookCapacityRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.BookCapacityResponse:
        """Book capacity under an active agreement."""
        return self._bookings.book(request, current_call().caller)

    def ReleaseBooking(  # noqa: N802
        self, request: capacity_service_pb2.ReleaseBookingRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.ReleaseBookingResponse:
        """Release a booking."""
        return self._bookings.release(request, current_call().caller)

    def ListBookings(  # noqa: N802
        self, request: capacity_service_pb2.ListBookingsRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.ListBookingsResponse:
        """List the bookings under the caller's agreements, newest first."""
        rules = Rules()
        check_id(rules, "hub_id", request.hub_id)
        check_id(rules, "agreement_id", request.agreement_id)
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        rows, next_page_token = page_of(
            f"ListBookings {request.hub_id}\0{request.agreement_id}\0{request.include_released}",
            request.page_size,
            request.page_token,
            lambda before, size: self._bookings.page(request, caller, before, size),
        )
        return capacity_service_pb2.ListBookingsResponse(
            bookings=[shown_agreement.booking(row) for row in rows], next_page_token=next_page_token
        )
