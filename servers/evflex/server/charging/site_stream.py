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
from evflex.server.charging.encode import chunked, fits_one_message
from evflex.server.charging.planner import Planned, Planner
from evflex.server.errors import ServiceError, busy
from evflex.server.log import places
from evflex.server.solve_pool import Job, Lane
from evflex.server.wire import decoded

_POLL_S = 0.2


@dataclass(slots=True)
class _Outcome:
    """What became of one site: the answer, which carries the plan, or a fault."""

    answer: charging_service_pb2.OptimizeSchedulesResponse
    plan: Planned | None = None

    def refuse(self, error: ServiceError) -> None:
        """Answer with a fault."""
        self.answer.fault.CopyFrom(error.fault())
        self.plan = None


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
                raise busy("SHUTTING_DOWN", "the server is shutting down", self._planner.settings.retry_delay_s)
            self._store(outcomes)
            for outcome in outcomes:
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

    def _store(self, outcomes: list[_Outcome]) -> None:
        """Store, in one transaction, the plans that ask for it."""
        asking = [(outcome, plan) for outcome in outcomes if (plan := outcome.plan) is not None and plan.new]
        if not asking:
            return
        try:
            refusals = self._planner.store_plans([plan for _, plan in asking])
        except ServiceError as error:
            refusals = [error] * len(asking)
        for (outcome, _), refusal in zip(asking, refusals, strict=True):
            if refusal is not None:
                outcome.refuse(refusal)
        self._on_stored()

    def _read(self) -> None:
        try:
            for message in self._requests:
                if not self._take_place():
                    return
                self._read_count += 1
                self._begin(message)
        except Exception as error:  # gRPC raises here when the call is over
            if not self._call.ended.is_set():
                self._log.warning("request stream broke", exception=type(error).__name__, places=places(error))
        finally:
            self._all_read.set()
            self._outcomes.put(None)

    def _take_place(self) -> bool:
        while not self._places.acquire(timeout=_POLL_S):
            if self._call.ended.is_set():
                return False
        return True

    def _begin(self, message: object) -> None:
        outcome = _Outcome(charging_service_pb2.OptimizeSchedulesResponse())
        try:
            request = _site_request(message)
            outcome.answer.site_id = request.site_id
            outcome.answer.request_id = request.request_id
            if self._draining.is_set():
                raise busy("SHUTTING_DOWN", "the server is shutting down", 1.0)
            self._submit(request, outcome)
        except ServiceError as error:
            outcome.refuse(error)
            self._outcomes.put(outcome)

    def _submit(self, request: charging_service_pb2.OptimizeScheduleRequest, outcome: _Outcome) -> None:
        def solve(cancel: threading.Event) -> None:
            self._plan(request, outcome, cancel)
            self._jobs.discard(job)
            self._outcomes.put(outcome)

        job = Job(solve)
        self._jobs.add(job)
        self._lane.submit(job)
        if self._call.ended.is_set():
            self._lane.cancel(job)

    def _plan(
        self,
        request: charging_service_pb2.OptimizeScheduleRequest,
        outcome: _Outcome,
        cancel: threading.Event,
    ) -> None:
        remaining_s = self._deadline_s - time.monotonic()
        try:
            outcome.plan = self._planner.plan_site(
                request, outcome.answer.summary.schedule, self._call.caller, remaining_s, cancel
            )
            outcome.answer.summary.schedule.SetInParent()
        except ServiceError as error:
            outcome.refuse(error)
        except Exception as error:
            self._log.error(
                "unexpected error", method=self._call.method, request_id=self._call.request_id,
                exception=type(error).__name__, places=places(error),
            )  # fmt: skip
            hint = f"unexpected error; quote request id {self._call.request_id}"
            outcome.refuse(ServiceError(code_pb2.INTERNAL, "INTERNAL", hint))

    def _cancel_all(self) -> None:
        for job in list(self._jobs):
            self._lane.cancel(job)


def _site_request(message: object) -> charging_service_pb2.OptimizeScheduleRequest:
    request = decoded(message)
    assert isinstance(request, charging_service_pb2.OptimizeSchedulesRequest)
    return request.site_request


def _messages(outcome: _Outcome) -> Iterator[charging_service_pb2.OptimizeSchedulesResponse]:
    """The answer as it is, or its parts where it is large."""
    answer = outcome.answer
    if outcome.plan is None or fits_one_message(outcome.plan.schedule):
        yield answer
        return
    for part in chunked(outcome.plan.schedule):
        message = charging_service_pb2.OptimizeSchedulesResponse(site_id=answer.site_id, request_id=answer.request_id)
        if isinstance(part, charging_service_pb2.ScheduleSummary):
            message.summary.CopyFrom(part)
        else:
            message.chunk.CopyFrom(part)
        yield message
