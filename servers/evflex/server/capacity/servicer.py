"""CapacityService: planning, real time, agreements and bookings, each from its own part."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from evflex.capacity.v1 import capacity_service_pb2_grpc
from evflex.server.capacity.agreement_rpcs import AgreementRpcs
from evflex.server.capacity.agreements import Agreements
from evflex.server.capacity.booking_rpcs import BookingRpcs
from evflex.server.capacity.bookings import Bookings
from evflex.server.capacity.live import LiveCapacities
from evflex.server.capacity.live_rpcs import LiveRpcs
from evflex.server.capacity.planner import CapacityPlanner
from evflex.server.capacity.planning_rpcs import HubVisibility, PlanningRpcs
from evflex.server.settings import Settings


class CapacityServicer(  # type: ignore[misc]  # streams hand out messages serialized
    PlanningRpcs, LiveRpcs, AgreementRpcs, BookingRpcs, capacity_service_pb2_grpc.CapacityServiceServicer
):
    """All RPCs; generated code stands last, because its methods refuse."""

    def __init__(
        self,
        settings: Settings,
        planner: CapacityPlanner,
        live: LiveCapacities,
        agreements: Agreements,
        bookings: Bookings,
        visibility: HubVisibility,
        log: FilteringBoundLogger,
    ) -> None:
        """Serve with these parts."""
        PlanningRpcs.__init__(self, planner, visibility)
        LiveRpcs.__init__(self, settings, live, planner.agreements, visibility, log)
        AgreementRpcs.__init__(self, agreements)
        BookingRpcs.__init__(self, bookings)
