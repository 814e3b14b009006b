"""RPCs of CapacityService that rate and plan: each in a few lines, on top of planner and store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import grpc

from evflex.capacity.v1 import allocation_pb2, capacity_service_pb2
from evflex.engine.validation import Rules
from evflex.server.caller import Caller
from evflex.server.calls import current_call
from evflex.server.capacity.planner import CapacityPlanner
from evflex.server.capacity.stored_allocation import check_hubs, keep_hubs, keep_partys_own, shown
from evflex.server.errors import not_found
from evflex.server.fields import check_id, check_request_id, refuse
from evflex.server.pages import check_page_size, page_of
from evflex.server.store.requests import request_key


class HubVisibility(Protocol):
    """Who sees what is planned for a hub."""

    def visible_hubs(self, caller: Caller) -> Callable[[str, str, str], bool]:
        """A predicate of owner, transformer and hub: whether the caller may see the capacity of that hub."""


class PlanningRpcs:
    """RateTransformer, AllocateCapacity, and the RPCs of stored allocations."""

    def __init__(self, planner: CapacityPlanner, visibility: HubVisibility) -> None:
        """Serve with these parts."""
        self._planner = planner
        self._visibility = visibility

    def RateTransformer(  # noqa: N802
        self, request: capacity_service_pb2.RateTransformerRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.RateTransformerResponse:
        """Rate a transformer."""
        rating = self._planner.rate(request, current_call())
        return capacity_service_pb2.RateTransformerResponse(rating=rating)

    def AllocateCapacity(  # noqa: N802
        self, request: capacity_service_pb2.AllocateCapacityRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.AllocateCapacityResponse:
        """Share the capacity of a transformer."""
        allocation = self._planner.allocate(request, current_call())
        return capacity_service_pb2.AllocateCapacityResponse(allocation=allocation)

    def GetAllocation(  # noqa: N802
        self, request: capacity_service_pb2.GetAllocationRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.GetAllocationResponse:
        """Return a stored allocation, or what the caller may see of it."""
        rules = Rules()
        check_id(rules, "allocation_id", request.allocation_id, required=True)
        refuse(rules)
        allocation = self._visible(current_call().caller, request.allocation_id)
        if request.hub_ids:
            check_hubs(allocation, request.hub_ids)
            keep_hubs(allocation, request.hub_ids)
        return capacity_service_pb2.GetAllocationResponse(allocation=allocation)

    def ListAllocations(  # noqa: N802
        self, request: capacity_service_pb2.ListAllocationsRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.ListAllocationsResponse:
        """List stored allocations, newest first."""
        rules = Rules()
        check_id(rules, "transformer_id", request.transformer_id)
        check_page_size(rules, request.page_size)
        refuse(rules)
        caller = current_call().caller
        store = self._planner.allocations
        rows, next_page_token = page_of(
            f"ListAllocations {request.transformer_id}",
            request.page_size,
            request.page_token,
            lambda before, size: store.page(caller.tenant_id, request.transformer_id, before, size, caller.areas),
        )
        return capacity_service_pb2.ListAllocationsResponse(
            allocations=[shown(row) for row in rows], next_page_token=next_page_token
        )

    def DeleteAllocation(  # noqa: N802
        self, request: capacity_service_pb2.DeleteAllocationRequest, context: grpc.ServicerContext
    ) -> capacity_service_pb2.DeleteAllocationResponse:
        """Delete a stored allocation."""
        rules = Rules()
        check_request_id(rules, request.request_id, required=not request.validate_only)
        check_id(rules, "allocation_id", request.allocation_id, required=True)
        refuse(rules)
        caller = current_call().caller
        self._planner.allocations.delete(
            request_key(caller.tenant_id, "DeleteAllocation", request.request_id, request),
            request.allocation_id,
            request.etag,
            self._planner.now_unix_us(),
            may_use_area=caller.may_use_area,
            check_only=request.validate_only,
        )
        return capacity_service_pb2.DeleteAllocationResponse()

    def _visible(self, caller: Caller, allocation_id: str) -> allocation_pb2.Allocation:
        """The allocation to its owner; to a party of its hubs' agreements what is its own; to others there is none."""
        row = self._planner.allocations.find(allocation_id)
        if row is None or not caller.may_use_area(row.area_id):
            raise not_found("allocation", allocation_id)
        if row.tenant_id == caller.tenant_id:
            return shown(row)
        message, may_see = shown(row), self._visibility.visible_hubs(caller)
        own = [hub.hub_id for hub in message.hubs if may_see(row.tenant_id, row.transformer_id, hub.hub_id)]
        if not own:
            raise not_found("allocation", allocation_id)
        keep_partys_own(message, own)
        return message
