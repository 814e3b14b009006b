"""The asynchronous client: the twin of :mod:`evflex.client.sync_client`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self

import grpc

from evflex.charging.v1 import charging_service_pb2 as pb
from evflex.client import operations
from evflex.client.activation.aio_calls import AsyncActivationCalls
from evflex.client.aio_transport import AsyncTransport
from evflex.client.capacity.aio_calls import AsyncCapacityCalls
from evflex.client.congestion.aio_calls import AsyncCongestionCalls
from evflex.client.dispatch.aio_calls import AsyncDispatchCalls
from evflex.client.errors import EvflexError
from evflex.client.operations import DEFAULT_ADDRESS, Connection
from evflex.client.request import ScheduleRequest
from evflex.client.retry import RetryPolicy
from evflex.client.schedule import Schedule, SiteFault
from evflex.client.streams import ScheduleEvent, SiteStream, Watch
from evflex.client.sync_client import unanswered_error


class AsyncEvflexClient(AsyncDispatchCalls, AsyncCapacityCalls, AsyncCongestionCalls, AsyncActivationCalls):
    """Schedules, plans, capacity, congestion and what is sold, for asyncio; use it as a context manager.

    Methods, arguments and errors are those of :class:`evflex.client.EvflexClient`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Prepare a connection on the running event loop; it is opened by the first call.

        Args:
            address: ``host:port`` of the server.
            credentials: TLS credentials; None connects without encryption.
            metadata: Sent with every call.
            retry: When a call is repeated.
        """
        self._transport = AsyncTransport(Connection(address, credentials, metadata or {}, retry or RetryPolicy()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and all calls on it."""
        await self._transport.close()

    async def optimize_schedule(self, request: ScheduleRequest, *, timeout_s: float | None = None) -> Schedule:
        """Plan one site."""
        answer = await self._transport.unary(operations.OPTIMIZE_SCHEDULE, request.to_message(), timeout_s)
        return Schedule.from_message(answer.schedule)

    async def optimize_schedules(
        self, requests: Iterable[ScheduleRequest], *, timeout_s: float | None = None
    ) -> AsyncIterator[Schedule | SiteFault]:
        """Plan many sites; yields the schedule or the fault of each, in order of completion."""
        operation = operations.OPTIMIZE_SCHEDULES
        sites = SiteStream(requests)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.stream(operation, sites.begin(), attempts.remaining_s())
                async with aclosing(answers):
                    async for message in answers:
                        for answer in sites.accept(message):
                            attempts.succeeded()
                            yield answer
                        for fault in sites.refused():
                            yield fault
                break
            except EvflexError as error:
                await self._transport.pause(attempts, error)
        for fault in sites.refused():
            yield fault
        if sites.failure is not None:
            raise sites.failure
        if sites.unanswered:
            raise unanswered_error(sites.unanswered, self._transport.connection.address)

    async def get_schedule(
        self, schedule_id: str, *, session_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> Schedule:
        """Fetch a stored schedule."""
        request = pb.GetScheduleRequest(schedule_id=schedule_id, session_ids=session_ids)
        answer = await self._transport.unary(operations.GET_SCHEDULE, request, timeout_s)
        return Schedule.from_message(answer.schedule)

    async def get_latest_schedule(
        self, site_id: str, *, session_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> Schedule:
        """Fetch the schedule of a site that was stored last."""
        request = pb.GetLatestScheduleRequest(site_id=site_id, session_ids=session_ids)
        answer = await self._transport.unary(operations.GET_LATEST_SCHEDULE, request, timeout_s)
        return Schedule.from_message(answer.schedule)

    async def list_schedules(
        self, site_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> AsyncIterator[Schedule]:
        """List stored schedules, newest first, without matrices and arrays per step."""
        request = pb.ListSchedulesRequest(site_id=site_id, page_size=page_size)
        async for page in self._transport.pages(operations.LIST_SCHEDULES, request, timeout_s):
            for message in page.schedules:
                yield Schedule.from_message(message)

    async def delete_schedule(
        self, schedule_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored schedule."""
        request = pb.DeleteScheduleRequest(
            request_id=request_id or str(uuid.uuid4()), schedule_id=schedule_id, etag=etag
        )
        await self._transport.unary(operations.DELETE_SCHEDULE, request, timeout_s)

    async def watch_schedules(
        self, site_ids: Sequence[str] = (), *, resume_token: str = "", timeout_s: float | None = None
    ) -> AsyncIterator[ScheduleEvent]:
        """Follow sites: their latest schedules, then every change, across restarts of the server."""
        operation = operations.WATCH_SCHEDULES
        watch = Watch(site_ids, resume_token)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.server_stream(operation, watch.request(), attempts.remaining_s())
                async with aclosing(answers):
                    async for message in answers:
                        attempts.succeeded()
                        event = watch.accept(message)
                        if event is not None:
                            yield event
                return
            except EvflexError as error:
                await self._transport.pause(attempts, error)
