"""The operations of the capacity service."""

from __future__ import annotations

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.capacity.v1 import tracking_pb2
from evflex.client.operations import Operation

CAPACITY_SERVICE = "evflex.capacity.v1.CapacityService"

RATE_TRANSFORMER = Operation(
    CAPACITY_SERVICE, "RateTransformer", pb.RateTransformerRequest, pb.RateTransformerResponse, 30.0
)
ALLOCATE_CAPACITY = Operation(
    CAPACITY_SERVICE, "AllocateCapacity", pb.AllocateCapacityRequest, pb.AllocateCapacityResponse, 30.0
)
GET_ALLOCATION = Operation(CAPACITY_SERVICE, "GetAllocation", pb.GetAllocationRequest, pb.GetAllocationResponse, 10.0)
LIST_ALLOCATIONS = Operation(
    CAPACITY_SERVICE, "ListAllocations", pb.ListAllocationsRequest, pb.ListAllocationsResponse, 10.0
)
DELETE_ALLOCATION = Operation(
    CAPACITY_SERVICE, "DeleteAllocation", pb.DeleteAllocationRequest, pb.DeleteAllocationResponse, 10.0
)
TRACK_CAPACITY = Operation(
    CAPACITY_SERVICE, "TrackCapacity", tracking_pb2.TrackCapacityRequest, tracking_pb2.TrackCapacityResponse, None
)
WATCH_CAPACITY = Operation(CAPACITY_SERVICE, "WatchCapacity", pb.WatchCapacityRequest, pb.WatchCapacityResponse, None)
PROPOSE_AGREEMENT = Operation(
    CAPACITY_SERVICE, "ProposeAgreement", pb.ProposeAgreementRequest, pb.ProposeAgreementResponse, 10.0
)
ACCEPT_AGREEMENT = Operation(
    CAPACITY_SERVICE, "AcceptAgreement", pb.AcceptAgreementRequest, pb.AcceptAgreementResponse, 10.0
)
END_AGREEMENT = Operation(CAPACITY_SERVICE, "EndAgreement", pb.EndAgreementRequest, pb.EndAgreementResponse, 10.0)
GET_AGREEMENT = Operation(CAPACITY_SERVICE, "GetAgreement", pb.GetAgreementRequest, pb.GetAgreementResponse, 10.0)
LIST_AGREEMENTS = Operation(
    CAPACITY_SERVICE, "ListAgreements", pb.ListAgreementsRequest, pb.ListAgreementsResponse, 10.0
)
BOOK_CAPACITY = Operation(CAPACITY_SERVICE, "BookCapacity", pb.BookCapacityRequest, pb.BookCapacityResponse, 10.0)
RELEASE_BOOKING = Operation(
    CAPACITY_SERVICE, "ReleaseBooking", pb.ReleaseBookingRequest, pb.ReleaseBookingResponse, 10.0
)
LIST_BOOKINGS = Operation(CAPACITY_SERVICE, "ListBookings", pb.ListBookingsRequest, pb.ListBookingsResponse, 10.0)
