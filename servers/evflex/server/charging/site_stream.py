"""OptimizeSchedules: many sites in one stream, a bounded number in flight, answered as they are done."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from google.rpc import code_pb2
from structlog.typing import FilteringBoundLogger

from evflex.charging.v1 import charging_service_pb2
from evflex.server.calls import Call
from evflex.server.charging.encode import chunked
from evflex.server.charging.planner import Planned, Planner
from evflex.server.errors import ServiceError, busy
from evflex.server.log import places
from evflex.server.solve_pool import Job, Lane
from evflex.server.wire import Undecodable, decoded

_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one site."""

    site_id: str
    request_id: str
    result: Planned | ServiceError


class SiteStream:
    """One OptimizeSchedules call.

    A thread reads requests while places in flight are free, threads of the pool plan, and :meth:`answers` stores and
    sends. A place is free again once its answer has been sent, so a client that does not read is not served ahead.
    """

    def __init__(
        self,
        planner: Planner,
        call: Call,
        requests: Iterable[object],
        draining: threading.Event,
        on_stored: Callable[[], None],
        log: FilteringBoundLogger,
    ) -> None:
        """Serve `call`, whose messages are `requests`, until they end or `draining` is set.

        `on_stored` is called after schedules were stored.
        """
        settings = planner.settings
        self._planner = planner
        self._call = call
        self._requests = requests
        self._draining = draining
        self._on_stored = on_stored
        self._log = log
        self._deadline_s = time.monotonic() + call.remaining_s(settings.stream_default_deadline_s)
        self._places = threading.Semaphore(settings.stream_sites_in_flight)
        self._lane: Lane = planner.pool.open_lane(settings.stream_sites_in_flight)
        self._outcomes: queue.SimpleQueue[_Outcome | None] = queue.SimpleQueue()
        self._read_count = 0
        self._all_read = threading.Event()
        self._jobs: set[Job] = set()

    def answers(self) -> Iterator[charging_service_pb2.OptimizeSchedulesResponse]:
        """The answers, in the order in which sites are done.

        Raises:
            ServiceError: UNAVAILABLE when the server drains before the client has sent its last site.
        """
        self._call.on_end(self._cancel_all)
        threading.Thread(target=self._read, name="site-stream-reader", daemon=True).start()
        answered = 0
        while not (self._all_read.is_set() and answered == self._read_count):
            outcomes = self._next_outcomes()
            if not outcomes and self._call.ended.is_set():
                return
            if not outcomes and self._draining.is_set() and answered == self._read_count:
                raise busy(
                    "SHUTTING_DOWN", "the server is shutting down", self._planner.settings.retry_delay_s
                )
            for outcome in self._stored(outcomes):
                yield from _messages(outcome)
                answered += 1
                self._places.release()

    def _next_outcomes(self) -> list[_Outcome]:
        """What is done by now; waits a moment for the first."""
        outcomes: list[_Outcome] = []
        try:
            outcome = self._outcomes.get(timeout=_POLL_S)
            while True:
                if outcome is not None:
                    outcomes.append(outcome)
                outcome = self._outcomes.get_nowait()
        except queue.Empty:
            return outcomes

    def _stored(self, outcomes: list[_Outcome]) -> list[_Outcome]:
        """The outcomes after storing, in one transaction, the plans that ask for it."""
        plans = [o.result for o in outcomes if isinstance(o.result, Planned)]
        if not any(plan.new for plan in plans):
            return outcomes
        try:
            answers = iter(self._planner.stored_or_refused(plans))
            self._on_stored()
        except ServiceError as error:
            answers = iter([error if plan.new else plan.schedule for plan in plans])
        settled = []
        for outcome in outcomes:
            result = outcome.result
            if isinstance(result, Planned):
                answer = next(answers)
                result = answer if isinstance(answer, ServiceError) else Planned(answer)
            settled.append(_Outcome(outcome.site_id, outcome.request_id, result))
        return settled

    def _read(self) -> None:
        try:
            for message in self._requests:
                if not self._take_place():
                    return
                self._read_count += 1
                self._begin(message)
        except Exception as error:  # gRPC raises here when the call is over
            if not self._call.ended.is_set():
                self._log.warning(
                    "request stream broke", exception=type(error).__name__, places=places(error)
                )
        finally:
            self._all_read.set()
            self._outcomes.put(None)

    def _take_place(self) -> bool:
        while not self._places.acquire(timeout=_POLL_S):
            if self._call.ended.is_set():
                return False
        return True

    def _begin(self, message: object) -> None:
        if isinstance(message, Undecodable):
            try:
                decoded(message)
            except ServiceError as error:
                self._outcomes.put(_Outcome("", "", error))
            return
        assert isinstance(message, charging_service_pb2.OptimizeSchedulesRequest)
        request = message.site_request
        if self._draining.is_set():
            self._refuse(request, busy("SHUTTING_DOWN", "the server is shutting down", 1.0))
            return

        def solve(cancel: threading.Event) -> None:
            self._outcomes.put(_Outcome(request.site_id, request.request_id, self._plan(request, cancel)))

        job = Job(solve)
        try:
            self._lane.submit(job)
        except ServiceError as error:
            self._refuse(request, error)
            return
        self._jobs.add(job)
        if self._call.ended.is_set():
            self._lane.cancel(job)

    def _refuse(self, request: charging_service_pb2.OptimizeScheduleRequest, error: ServiceError) -> None:
        self._outcomes.put(_Outcome(request.site_id, request.request_id, error))

    def _plan(
        self, request: charging_service_pb2.OptimizeScheduleRequest, cancel: threading.Event
    ) -> Planned | ServiceError:
        try:
            return self._planner.plan_site(
                request, self._call.caller, self._deadline_s - time.monotonic(), cancel
            )
        except ServiceError as error:
            return error
        except Exception as error:
            self._log.error(
                "unexpected error", method=self._call.method, request_id=self._call.request_id,
                exception=type(error).__name__, places=places(error),
            )  # fmt: skip
            return ServiceError(
                code_pb2.INTERNAL, "INTERNAL", f"unexpected error; quote request id {self._call.request_id}"
            )

    def _cancel_all(self) -> None:
        for job in list(self._jobs):
            self._lane.cancel(job)


def _messages(outcome: _Outcome) -> Iterator[charging_service_pb2.OptimizeSchedulesResponse]:
    site_id, request_id, result = outcome.site_id, outcome.request_id, outcome.result
    if isinstance(result, ServiceError):
        yield charging_service_pb2.OptimizeSchedulesResponse(
            site_id=site_id, request_id=request_id, fault=result.fault()
        )
        return
    for part in chunked(result.schedule):
        if isinstance(part, charging_service_pb2.ScheduleSummary):
            yield charging_service_pb2.OptimizeSchedulesResponse(
                site_id=site_id, request_id=request_id, summary=part
            )
        else:
            yield charging_service_pb2.OptimizeSchedulesResponse(
                site_id=site_id, request_id=request_id, chunk=part
            )
