"""Calls of the capacity service, synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta

from evflex.capacity.v1 import capacity_service_pb2 as pb
from evflex.client.capacity import operations
from evflex.client.capacity.allocation import Allocation
from evflex.client.capacity.enums import AllocationPolicy
from evflex.client.capacity.hub import Hub
from evflex.client.capacity.loading import Loading
from evflex.client.capacity.rating import TransformerRating
from evflex.client.capacity.requests import AllocationRequest, RatingRequest
from evflex.client.capacity.sync_agreements import AgreementCalls
from evflex.client.capacity.sync_tracking import CapacityTracking
from evflex.client.capacity.tracking import TrackingHeader
from evflex.client.capacity.transformer import Transformer
from evflex.client.capacity.watch import CapacityEvent, CapacityWatch
from evflex.client.errors import EvflexError
from evflex.client.request import Flags
from evflex.client.retry import resumable
from evflex.client.timegrid import TimeGrid
from evflex.client.transport import Transport


class CapacityCalls(AgreementCalls):
    """Transformers shared between hubs; the part of :class:`evflex.client.EvflexClient` for the capacity service."""

    _transport: Transport

    def rate_transformer(
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
        """Compute temperatures, ageing and headroom of a transformer under its load.

        Args:
            transformer: The transformer.
            loading: Its load, measured or forecast.
            time_grid: Time axis; None takes the time index of the forecast or of the ambient temperature.
            contingency: Whether the grid is in N-1, for all steps or for each; None is never.
            n1_rated_kva: Limit of loading in N-1 in kVA; None is the rated power.
            risk_quantile: Quantile of the forecast to be safe against; None is the highest given.
            wanted: Steps in which extra load is wanted; None is all.
            store: Whether the server keeps the rating, so that its headroom can be booked.
            validate_only: Only check the request: the rating is empty.
            area_id: Grid area.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The request breaks rules; ``violations`` names field and rule.
        """
        request = RatingRequest(
            transformer, loading, time_grid, contingency, n1_rated_kva, risk_quantile, wanted, store, validate_only,
            area_id, request_id,
        ).to_message()  # fmt: skip
        answer = self._transport.unary(operations.RATE_TRANSFORMER, request, timeout_s)
        return TransformerRating.from_message(answer.rating)

    def allocate_capacity(
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
        """Share a transformer between hubs over a horizon.

        Args:
            transformer: The transformer.
            loading: Its load without the hubs, measured or forecast.
            hubs: The hubs.
            policy: How conditional capacity is split.
            time_grid: Time axis; None takes the time index of the forecast, of a demand or of the ambient temperature.
            contingency: Whether the grid is in N-1, for all steps or for each; None is never.
            n1_rated_kva: Limit of loading in N-1 in kVA; None is the rated power.
            risk_quantile: Quantile of the forecast to be safe against; None is the highest given.
            time_limit: Longest solve; None leaves it to ``timeout_s``.
            store: Whether the server keeps the allocation and shows it to watchers.
            previous_allocation_id: Stored allocation that this one replaces: what it gave is not taken back within an
                agreement's notice, where safety and firm capacity allow.
            validate_only: Only check the request: the allocation is empty.
            area_id: Grid area.
            request_id: UUID under which a repeated call gives the same answer; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            InvalidRequestError: The request breaks rules; ``violations`` names field and rule. A column that cannot be
                read is told before anything is sent.
        """
        request = AllocationRequest(
            transformer, loading, hubs, policy, time_grid, contingency, n1_rated_kva, risk_quantile, time_limit, store,
            previous_allocation_id, validate_only, area_id, request_id,
        ).to_message()  # fmt: skip
        answer = self._transport.unary(operations.ALLOCATE_CAPACITY, request, timeout_s)
        return Allocation.from_message(answer.allocation)

    def get_allocation(
        self, allocation_id: str, *, hub_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> Allocation:
        """Fetch a stored allocation; a charge point operator sees its own hubs in it.

        Args:
            allocation_id: Identifier.
            hub_ids: Hubs wanted; empty means all.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such allocation.
        """
        request = pb.GetAllocationRequest(allocation_id=allocation_id, hub_ids=hub_ids)
        return Allocation.from_message(self._transport.unary(operations.GET_ALLOCATION, request, timeout_s).allocation)

    def list_allocations(
        self, transformer_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> Iterator[Allocation]:
        """List stored allocations, newest first, without arrays; further pages are fetched as they are needed.

        Args:
            transformer_id: Only of this transformer; empty means all.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListAllocationsRequest(transformer_id=transformer_id, page_size=page_size)
        for page in self._transport.pages(operations.LIST_ALLOCATIONS, request, timeout_s):
            yield from map(Allocation.from_message, page.allocations)

    def delete_allocation(
        self, allocation_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored allocation. Arguments and errors as :meth:`EvflexClient.delete_schedule`."""
        request = pb.DeleteAllocationRequest(
            request_id=request_id or str(uuid.uuid4()), allocation_id=allocation_id, etag=etag
        )
        self._transport.unary(operations.DELETE_ALLOCATION, request, timeout_s)

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
    ) -> CapacityTracking:
        """Track a transformer in real time: measurements in, changed capacities out.

        The stream is open while a ``with`` block of the returned object runs. It is not opened again by itself when it
        is lost: hubs are then on firm capacity, and the caller says with which measurements to go on.

        Args:
            transformer: The transformer; ``ambient_c`` holds until a measurement says another.
            hubs: The hubs, without demand.
            policy: How conditional capacity is split.
            contingency: Whether the grid is in N-1 at the start.
            n1_rated_kva: Limit of loading in N-1 in kVA; None is the rated power.
            max_silence: When no valid measurement comes for this long, hubs fall to firm capacity; None is 10 s.
            dead_band_ratio: A rise of a hub's capacity by less than this share of its ``max_kw`` is not sent; None is
                0.02. Cuts always are.
            ramp_ratio_per_min: Fastest rise of a hub's capacity, as a share of its ``max_kw`` a minute; None is 0.5.
            rotation: How long a hub is served before another's turn, where shares do not reach the minimum of one car;
                None is 5 min.
            max_clock_skew: Furthest that a measurement may be ahead of the server's clock; None is 5 s.
            area_id: Grid area.
            request_id: UUID for the log; drawn when empty.
            timeout_s: Time for the whole stream; None tracks until the block ends.

        Raises:
            InvalidRequestError: The header cannot be written.
        """
        header = TrackingHeader(
            transformer=transformer, hubs=hubs, policy=policy, contingency=contingency, n1_rated_kva=n1_rated_kva,
            max_silence=max_silence, dead_band_ratio=dead_band_ratio, ramp_ratio_per_min=ramp_ratio_per_min,
            rotation=rotation, max_clock_skew=max_clock_skew, area_id=area_id, request_id=request_id,
        )  # fmt: skip
        return CapacityTracking(self._transport, header, timeout_s)

    def watch_capacity(
        self, hub_ids: Sequence[str] = (), *, resume_token: str = "", timeout_s: float | None = None
    ) -> Iterator[CapacityEvent]:
        """Follow hubs: their present capacity, then every change, across restarts of the server.

        Args:
            hub_ids: Hubs; empty means all that the caller may see.
            resume_token: Token of an earlier event after which to go on, with what has changed since.
            timeout_s: Time for the whole watch; None watches until the caller stops reading.

        Yields:
            Events, heartbeats included. A watch that was ended because it read too slowly goes on by itself.

        Raises:
            EvflexError: The watch failed for good.
        """
        operation = operations.WATCH_CAPACITY
        watch = CapacityWatch(hub_ids, resume_token)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.server_stream(operation, watch.request(), attempts.remaining_s())
                with closing(answers):
                    for message in answers:
                        attempts.succeeded()
                        yield watch.accept(message)
                return
            except EvflexError as error:
                self._transport.pause(attempts, resumable(error))
