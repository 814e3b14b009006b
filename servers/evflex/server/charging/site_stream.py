"""OptimizeSchedules: many sites in one stream, a bounded number in flight, answered as they are done."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.rpc import code_pb2
from structlog.typing import FilteringBoundLogger

from evflex.charging.v1 import charging_service_pb2
from evflex.server.calls import Call
from evflex.server.charging.encode import WHOLE_BYTES, chunked
from evflex.server.charging.planner import Planned, Planner, ReadSite
from evflex.server.errors import ServiceError, busy, limit_exceeded
from evflex.server.log import places
from evflex.server.solve_pool import Job, Lane
from evflex.server.wire import decoded, delimited

_POLL_S = 0.2
# A thread leaves its place to other lanes after a turn.
_TURN_S = 0.02
# A site takes one place in flight, and another for each so many cells of its plan.
_CELLS_PER_PLACE = 20_000
# Sites of so many places are planned at once, which shares the price of calls among them, and handed over together.
_TOGETHER_PLACES = 32
_MOST_SITES = 1_000
_MOST_ANSWER_BYTES = 1 << 20
_ANSWERS = charging_service_pb2.OptimizeSchedulesResponse.ANSWERS_FIELD_NUMBER


@dataclass(slots=True)
class _Site:
    """A site on its way through: the request, the answer that carries plan or fault, and what is still to be stored."""

    request: charging_service_pb2.OptimizeScheduleRequest
    answer: charging_service_pb2.SiteAnswer
    places: int = 1
    read: ReadSite | None = None
    plan: Planned | None = None

    @property
    def is_answered(self) -> bool:
        """Whether it has a plan or a fault."""
        return self.plan is not None or self.answer.HasField("fault")

    def take(self, plan: Planned) -> None:
        """Answer with a plan, which is empty where the site was only to be checked."""
        self.plan = plan
        plan.schedule.SetInParent()

    def refuse(self, error: ServiceError) -> None:
        """Answer with a fault."""
        self.answer.fault.CopyFrom(error.fault())
        self.plan = None


class SiteStream:
    """One OptimizeSchedules call.

    A thread reads requests while places in flight are free, threads of the pool plan them, and :meth:`answers` stores
    and sends. A place is free again once its answer has been sent, so a client that does not read is not served ahead.

    Small sites are many, so a thread of the pool takes several of them in its turn, and a message holds all that was
    done meanwhile; then other lanes have their turns.
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
        self._most_places = settings.stream_sites_in_flight
        self._places = threading.Semaphore(self._most_places)
        self._lane: Lane = planner.pool.open_lane(planner.pool.thread_count)
        self._waiting: deque[_Site] = deque()
        self._alone: deque[_Site] = deque()
        self._done: queue.SimpleQueue[list[_Site]] = queue.SimpleQueue()
        self._turns = 0
        self._turns_lock = threading.Lock()
        self._read_count = 0
        self._all_read = threading.Event()

    def answers(self) -> Iterator[bytes]:
        """The answers, in the order in which sites are done, as OptimizeSchedulesResponse messages.

        Raises:
            ServiceError: UNAVAILABLE when the server drains before the client has sent its last site.
        """
        threading.Thread(target=self._read, name="site-stream-reader", daemon=True).start()
        answered = 0
        while not (self._all_read.is_set() and answered == self._read_count):
            sites = self._next_done()
            if not sites and self._call.ended.is_set():
                return
            if not sites and self._draining.is_set() and answered == self._read_count:
                raise self._shutting_down()
            self._store(sites)
            for message, places_taken, count in _messages(sites):
                yield message
                answered += count
                if places_taken:
                    self._places.release(places_taken)

    def _next_done(self) -> list[_Site]:
        """What is done by now; waits a moment for the first."""
        sites: list[_Site] = []
        try:
            sites += self._done.get(timeout=_POLL_S)
            while True:
                sites += self._done.get_nowait()
        except queue.Empty:
            return sites

    def _store(self, sites: list[_Site]) -> None:
        """Store, in one transaction, the plans that ask for it."""
        asking = [(site, plan) for site in sites if (plan := site.plan) is not None and plan.new is not None]
        if not asking:
            return
        try:
            refusals = self._planner.store_plans([plan for _, plan in asking])
        except ServiceError as error:
            refusals = [error] * len(asking)
        for (site, _), refusal in zip(asking, refusals, strict=True):
            if refusal is not None:
                site.refuse(refusal)
        self._on_stored()

    def _read(self) -> None:
        try:
            for message in self._requests:
                for site in self._sites(message):
                    if not self._take_places(site.places):
                        return
                    self._read_count += 1
                    if site.answer.HasField("fault"):
                        self._done.put([site])
                        continue
                    self._waiting.append(site)
                    self._ask_for_turn()
        except Exception as error:  # gRPC raises here when the call is over
            if not self._call.ended.is_set():
                self._log.warning("request stream broke", exception=type(error).__name__, places=places(error))
        finally:
            self._all_read.set()
            self._done.put([])

    def _take_places(self, count: int) -> bool:
        for _ in range(count):
            while not self._places.acquire(timeout=_POLL_S):
                if self._call.ended.is_set():
                    return False
        return True

    def _sites(self, message: object) -> Iterator[_Site]:
        """The sites of a message, or the fault of one that cannot be read."""
        try:
            request = decoded(message)
            assert isinstance(request, charging_service_pb2.OptimizeSchedulesRequest)
            if len(request.site_requests) > _MOST_SITES:
                raise limit_exceeded("site_requests of a message", len(request.site_requests), _MOST_SITES)
        except ServiceError as error:
            answer = charging_service_pb2.SiteAnswer(fault=error.fault())
            yield _Site(charging_service_pb2.OptimizeScheduleRequest(), answer)
            return
        for site in request.site_requests:
            answer = charging_service_pb2.SiteAnswer(site_id=site.site_id, request_id=site.request_id)
            cells = len(site.sessions) * site.time_grid.step_count
            yield _Site(site, answer, min(self._most_places, 1 + max(0, cells) // _CELLS_PER_PLACE))

    def _ask_for_turn(self) -> None:
        """Let one more thread take waiting sites, unless each has been asked already."""
        if self._turns >= self._lane.queue_limit:  # each looks for waiting sites again when its turn is over
            return
        with self._turns_lock:
            if self._turns >= self._lane.queue_limit:
                return
            self._turns += 1
        try:
            self._lane.submit(Job(self._take_turn, self._call.ended))
        except ServiceError as error:
            with self._turns_lock:
                self._turns -= 1
            self._refuse_waiting(error)

    def _take_turn(self, cancel: threading.Event) -> None:
        """Plan waiting sites for a while, in a thread of the pool: many at once, or one that must be planned alone."""
        started_s = time.monotonic()
        while not cancel.is_set():
            sites = self._next(self._waiting, _TOGETHER_PLACES)
            if sites:
                self._plan_together(sites)
            elif sites := self._next(self._alone, 1):
                self._plan_alone(sites[0], cancel)
            else:
                break
            self._done.put([site for site in sites if site.is_answered])
            if time.monotonic() - started_s > _TURN_S:
                break
        with self._turns_lock:
            self._turns -= 1
        if cancel.is_set():
            self._waiting.clear()
            self._alone.clear()
        elif self._waiting or self._alone:
            self._ask_for_turn()

    def _next(self, waiting: deque[_Site], most_places: int) -> list[_Site]:
        """Take sites of at most so many places together, one at least where any waits."""
        sites: list[_Site] = []
        while most_places > 0:
            try:
                site = waiting.popleft()
            except IndexError:  # none waits, or another thread was faster
                break
            sites.append(site)
            most_places -= site.places
        return sites

    def _plan_together(self, sites: list[_Site]) -> None:
        """Read sites, plan those that can be planned at once, and let the others wait to be planned alone."""
        for site in sites:
            with self._answered_with_a_fault(site):
                self._check_open()
                read = self._planner.read_site(
                    site.request, site.answer.summary.schedule, self._call.caller, self._remaining_s()
                )
                if isinstance(read, ReadSite):
                    site.read = read
                else:
                    site.take(read)
        reads = [(site, site.read) for site in sites if site.read is not None]
        plans: list[Planned | None] = [None] * len(reads)
        try:
            plans = self._planner.plan_together([read for _, read in reads], self._call.caller)
        except Exception as error:  # each is planned alone then, and has a fault of its own where it has any
            self._log_unexpected(error)
            for _, read in reads:
                read.into.Clear()
        for (site, _), plan in zip(reads, plans, strict=True):
            if plan is not None:
                site.take(plan)
            else:
                self._alone.append(site)
                self._ask_for_turn()

    def _plan_alone(self, site: _Site, cancel: threading.Event) -> None:
        with self._answered_with_a_fault(site):
            self._check_open()
            assert site.read is not None
            site.take(self._planner.plan_alone(site.read, self._call.caller, self._remaining_s(), cancel))

    def _check_open(self) -> None:
        if self._draining.is_set():
            raise self._shutting_down()

    def _remaining_s(self) -> float:
        return self._deadline_s - time.monotonic()

    @contextmanager
    def _answered_with_a_fault(self, site: _Site) -> Iterator[None]:
        """Answer a site with what goes wrong meanwhile, so that the others go on."""
        try:
            yield
        except ServiceError as error:
            site.refuse(error)
        except Exception as error:
            self._log_unexpected(error)
            hint = f"unexpected error; quote request id {self._call.request_id}"
            site.refuse(ServiceError(code_pb2.INTERNAL, "INTERNAL", hint))

    def _log_unexpected(self, error: Exception) -> None:
        self._log.error(
            "unexpected error", method=self._call.method, request_id=self._call.request_id,
            exception=type(error).__name__, places=places(error),
        )  # fmt: skip

    def _refuse_waiting(self, error: ServiceError) -> None:
        for waiting in (self._waiting, self._alone):
            while sites := self._next(waiting, 1):
                sites[0].refuse(error)
                self._done.put(sites)

    def _shutting_down(self) -> ServiceError:
        return busy("SHUTTING_DOWN", "the server is shutting down", self._planner.settings.retry_delay_s)


def _messages(sites: list[_Site]) -> Iterator[tuple[bytes, int, int]]:
    """Answers put together into messages, each with the places and the sites that are answered by then."""
    parts: list[bytes] = []
    size_bytes = places_taken = count = 0
    for site in sites:
        for part in _parts(site):
            if parts and size_bytes + len(part) > _MOST_ANSWER_BYTES:
                yield b"".join(parts), places_taken, count
                parts, size_bytes, places_taken, count = [], 0, 0, 0
            parts.append(part)
            size_bytes += len(part)
        places_taken += site.places
        count += 1
    if parts:
        yield b"".join(parts), places_taken, count


def _parts(site: _Site) -> Iterator[bytes]:
    """The answer as it is, or its parts where it is large, each as the field of the message that carries it."""
    answer = site.answer
    whole = answer.SerializeToString()
    if site.plan is None or len(whole) <= WHOLE_BYTES:
        yield delimited(_ANSWERS, whole)
        return
    for part in chunked(site.plan.schedule):
        message = charging_service_pb2.SiteAnswer(site_id=answer.site_id, request_id=answer.request_id)
        if isinstance(part, charging_service_pb2.ScheduleSummary):
            message.summary.CopyFrom(part)
        else:
            message.chunk.CopyFrom(part)
        yield delimited(_ANSWERS, message.SerializeToString())
