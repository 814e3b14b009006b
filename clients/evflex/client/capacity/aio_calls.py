"""Calls of the capacity service, asynchronous: the twin of :mod:`evflex.client.capacity.sync_calls`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import timedelta

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.aio_transport import AsyncTransport
from evflex.client.capacity import operations
from evflex.client.capacity.aio_agreements import AsyncAgreementCalls
from evflex.client.capacity.aio_tracking import AsyncCapacityTracking
from evflex.client.capacity.allocation import Allocation
from evflex.client.capacity.enums import AllocationPolicy
from evflex.client.capacity.hub import Hub
from evflex.client.capacity.loading import Loading
from evflex.client.capacity.rating import TransformerRating
from evflex.client.capacity.requests import AllocationRequest, RatingRequest
from evflex.client.capacity.tracking import TrackingHeader
from evflex.client.capacity.transformer import Transformer
from evflex.client.capacity.watch import CapacityEvent, CapacityWatch
from evflex.client.errors import EvflexError
from evflex.client.request import Flags
from evflex.client.retry import resumable
from evflex.client.timegrid import TimeGrid


class AsyncCapacityCalls(AsyncAgreementCalls):
    """Transformers shared between hubs, for asyncio.

    Methods, arguments and errors are those of :class:`evflex.client.capacity.sync_calls.CapacityCalls`.
    """

    _transport: AsyncTransport

    async def rate_transformer(
        self,
        transformer: Transformer,
        loading: Loading,
        *,
        time_grid: TimeGrid | None = None,
        contingency: bool | Flags | None = None,
        n1_rated_kva: float | None = None,
        risk_quantile: float | None = None,
        wanted: Flags | None = None,
        store: bool = False,
        validate_only: bool = False,
        area_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> TransformerRating:
        """Compute temperatures, ageing and headroom of a transformer under its load."""
        request = RatingRequest(
            transformer, loading, time_grid, contingency, n1_rated_kva, risk_quantile, wanted, store, validate_only,
            area_id, request_id,
        ).to_message()  # fmt: skip
        answer = await self._transport.unary(operations.RATE_TRANSFORMER, request, timeout_s)
        return TransformerRating.from_message(answer.rating)

    async def allocate_capacity(
        self,
        transformer: Transformer,
        loading: Loading,
        hubs: Sequence[Hub],
        *,
        policy: AllocationPolicy | str = AllocationPolicy.MAX_MIN,
        time_grid: TimeGrid | None = None,
        contingency: bool | Flags | None = None,
        n1_rated_kva: float | None = None,
        risk_quantile: float | None = None,
        time_limit: timedelta | None = None,
        store: bool = False,
        previous_allocation_id: str = "",
        validate_only: bool = False,
        area_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> Allocation:
        """Share a transformer between hubs over a horizon."""
        request = AllocationRequest(
            transformer, loading, hubs, policy, time_grid, contingency, n1_rated_kva, risk_quantile, time_limit, store,
            previous_allocation_id, validate_only, area_id, request_id,
        ).to_message()  # fmt: skip
        answer = await self._transport.unary(operations.ALLOCATE_CAPACITY, request, timeout_s)
        return Allocation.from_message(answer.allocation)

    async def get_allocation(
        self, allocation_id: str, *, hub_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> Allocation:
        """Fetch a stored allocation; a charge point operator sees its own hubs in it."""
        request = pb.GetAllocationRequest(allocation_id=allocation_id, hub_ids=hub_ids)
        return Allocation.from_message(
            (await self._transport.unary(operations.GET_ALLOCATION, request, timeout_s)).allocation
        )

    async def list_allocations(
        self, transformer_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[Allocation]:
        """List stored allocations, newest first, without arrays; further pages are fetched as they are needed."""
        request = pb.ListAllocationsRequest(transformer_id=transformer_id, page_size=page_size)
        async for page in self._transport.pages(operations.LIST_ALLOCATIONS, request, timeout_s):
            for message in page.allocations:
                yield Allocation.from_message(message)

    async def delete_allocation(
        self, allocation_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored allocation. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeleteAllocationRequest(
            request_id=request_id or str(uuid.uuid4()), allocation_id=allocation_id, etag=etag
        )
        await self._transport.unary(operations.DELETE_ALLOCATION, request, timeout_s)

    def track_capacity(
        self,
        transformer: Transformer,
        hubs: Sequence[Hub],
        *,
        policy: AllocationPolicy | str = AllocationPolicy.MAX_MIN,
        contingency: bool = False,
        n1_rated_kva: float | None = None,
        max_silence: timedelta | None = None,
        dead_band_ratio: float | None = None,
        ramp_ratio_per_min: float | None = None,
        rotation: timedelta | None = None,
        max_clock_skew: timedelta | None = None,
        area_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> AsyncCapacityTracking:
        """Track a transformer in real time: measurements in, changed capacities out."""
        header = TrackingHeader(
            transformer=transformer, hubs=hubs, policy=policy, contingency=contingency, n1_rated_kva=n1_rated_kva,
            max_silence=max_silence, dead_band_ratio=dead_band_ratio, ramp_ratio_per_min=ramp_ratio_per_min,
            rotation=rotation, max_clock_skew=max_clock_skew, area_id=area_id, request_id=request_id,
        )  # fmt: skip
        return AsyncCapacityTracking(self._transport, header, timeout_s)

    async def watch_capacity(
        self, hub_ids: Sequence[str] = (), *, resume_token: str = "", timeout_s: float | None = None
    ) -> AsyncIterator[CapacityEvent]:
        """Follow hubs: their present capacity, then every change, across restarts of the server."""
        operation = operations.WATCH_CAPACITY
        watch = CapacityWatch(hub_ids, resume_token)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.server_stream(operation, watch.request(), attempts.remaining_s())
                async with aclosing(answers):
                    async for message in answers:
                        attempts.succeeded()
                        yield watch.accept(message)
                return
            except EvflexError as error:
                await self._transport.pause(attempts, resumable(error))
