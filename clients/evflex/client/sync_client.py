"""The synchronous client."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Self

import grpc

from evflex.charging.v1 import charging_service_pb2 as pb
from evflex.client import operations
from evflex.client.activation.sync_calls import ActivationCalls
from evflex.client.capacity.sync_calls import CapacityCalls
from evflex.client.congestion.sync_calls import CongestionCalls
from evflex.client.dispatch.sync_calls import DispatchCalls
from evflex.client.errors import EvflexError, ServerError
from evflex.client.operations import DEFAULT_ADDRESS, Connection
from evflex.client.request import ScheduleRequest
from evflex.client.retry import RetryPolicy
from evflex.client.schedule import Schedule, SiteFault
from evflex.client.streams import ScheduleEvent, SiteStream, Watch
from evflex.client.transport import Transport


class EvflexClient(DispatchCalls, CapacityCalls, CongestionCalls, ActivationCalls):
    """Schedules of sites, plans of portfolios, capacity, congestion, and the ledger of what is sold, from a server.

    May be shared by threads; use it as a context manager.

    Every method takes ``timeout_s``, the time for all its attempts; None takes the RPC's default. Calls are
    repeated only where that is safe and helps (``UNAVAILABLE``), and raise :class:`evflex.client.EvflexError`
    otherwise.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Prepare a connection; it is opened by the first call.

        Args:
            address: ``host:port`` of the server.
            credentials: TLS credentials; None connects without encryption.
            metadata: Sent with every call.
            retry: When a call is repeated.
        """
        self._transport = Transport(Connection(address, credentials, metadata or {}, retry or RetryPolicy()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and all calls on it."""
        self._transport.close()

    def optimize_schedule(self, request: ScheduleRequest, *, timeout_s: float | None = None) -> Schedule:
        """Plan one site.

        Raises:
            InvalidRequestError: The request breaks rules; ``violations`` names field and rule.
            LimitExceededError: The site is too large for one message: use :meth:`optimize_schedules`.
            EvflexError: The call failed otherwise.
        """
        answer = self._transport.unary(operations.OPTIMIZE_SCHEDULE, request.to_message(), timeout_s)
        return Schedule.from_message(answer.schedule)

    def optimize_schedules(
        self, requests: Iterable[ScheduleRequest], *, timeout_s: float | None = None
    ) -> Iterator[Schedule | SiteFault]:
        """Plan many sites, or very large ones.

        Args:
            requests: Sites; pulled lazily, in another thread. Those of a list are sent several in a message, which
                is faster where sites are small; those of an iterator one by one, since it may wait for answers.
            timeout_s: Time for the whole stream.

        Yields:
            The schedule or the fault of each site, in order of completion. When the server becomes
            unavailable, the sites without an answer are sent again.

        Raises:
            EvflexError: The stream as a whole failed for good.
        """
        operation = operations.OPTIMIZE_SCHEDULES
        sites = SiteStream(requests)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.stream(operation, sites.begin(), attempts.remaining_s())
                with closing(answers):
                    for message in answers:
                        for answer in sites.accept(message):
                            attempts.succeeded()
                            yield answer
                        yield from sites.refused()
                break
            except EvflexError as error:
                self._transport.pause(attempts, error)
        yield from sites.refused()
        if sites.failure is not None:
            raise sites.failure
        if sites.unanswered:
            raise unanswered_error(sites.unanswered, self._transport.connection.address)

    def get_schedule(
        self, schedule_id: str, *, session_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> Schedule:
        """Fetch a stored schedule.

        Args:
            schedule_id: Identifier.
            session_ids: Rows wanted; empty means all.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such schedule.
        """
        request = pb.GetScheduleRequest(schedule_id=schedule_id, session_ids=session_ids)
        return Schedule.from_message(self._transport.unary(operations.GET_SCHEDULE, request, timeout_s).schedule)

    def get_latest_schedule(
        self, site_id: str, *, session_ids: Sequence[str] = (), timeout_s: float | None = None
    ) -> Schedule:
        """Fetch the schedule of a site that was stored last; otherwise as :meth:`get_schedule`."""
        request = pb.GetLatestScheduleRequest(site_id=site_id, session_ids=session_ids)
        answer = self._transport.unary(operations.GET_LATEST_SCHEDULE, request, timeout_s)
        return Schedule.from_message(answer.schedule)

    def list_schedules(
        self, site_id: str = "", *, page_size: int = 0, timeout_s: float | None = None
    ) -> Iterator[Schedule]:
        """List stored schedules, newest first, without matrices and arrays per step.

        Further pages are fetched as they are needed.

        Args:
            site_id: Only this site; empty means all.
            page_size: Entries asked for at once; 0 takes the server's default.
            timeout_s: Time for each page.
        """
        request = pb.ListSchedulesRequest(site_id=site_id, page_size=page_size)
        for page in self._transport.pages(operations.LIST_SCHEDULES, request, timeout_s):
            yield from map(Schedule.from_message, page.schedules)

    def delete_schedule(
        self, schedule_id: str, *, etag: str = "", request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a stored schedule.

        Args:
            schedule_id: Identifier.
            etag: When not empty, delete only if the stored one is the same.
            request_id: UUID of this deletion; drawn when empty.
            timeout_s: Time for all attempts.

        Raises:
            NotFoundError: There is no such schedule.
            ConflictError: The etag differs.
        """
        request = pb.DeleteScheduleRequest(
            request_id=request_id or str(uuid.uuid4()), schedule_id=schedule_id, etag=etag
        )
        self._transport.unary(operations.DELETE_SCHEDULE, request, timeout_s)

    def watch_schedules(
        self, site_ids: Sequence[str] = (), *, resume_token: str = "", timeout_s: float | None = None
    ) -> Iterator[ScheduleEvent]:
        """Follow sites: their latest schedules, then every change, across restarts of the server.

        Args:
            site_ids: Sites; empty means all.
            resume_token: Token of an earlier event after which to go on, without a snapshot.
            timeout_s: Time for the whole watch; None watches until the caller stops reading.

        Yields:
            Events, heartbeats included.

        Raises:
            LimitExceededError: This watcher read too slowly; go on with the last event's ``resume_token``.
            EvflexError: The watch failed for good.
        """
        operation = operations.WATCH_SCHEDULES
        watch = Watch(site_ids, resume_token)
        attempts = self._transport.attempts(operation, timeout_s)
        while True:
            try:
                answers = self._transport.server_stream(operation, watch.request(), attempts.remaining_s())
                with closing(answers):
                    for message in answers:
                        attempts.succeeded()
                        event = watch.accept(message)
                        if event is not None:
                            yield event
                return
            except EvflexError as error:
                self._transport.pause(attempts, error)


def unanswered_error(count: int, server: str) -> ServerError:
    """The server ended a stream of sites without having answered all."""
    return ServerError(
        f"the server ended the stream with {count} sites unanswered",
        code="INTERNAL",
        server=server,
        operation=operations.OPTIMIZE_SCHEDULES.name,
    )
