"""A solve in the pool on behalf of an RPC: how long it may take, how it is waited for, and why it came to nothing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from google.rpc import code_pb2

from evflex.server.calls import Call
from evflex.server.errors import ServiceError, busy
from evflex.server.settings import Settings
from evflex.server.solve_pool import Job, Lane

_ROUNDING_RATIO = 0.01
_LARGEST_MARGIN_RATIO = 0.2

Result = TypeVar("Result")


class PoolRun(Generic[Result]):
    """Work that a thread of the pool does while the RPC's thread waits; cancelled when the RPC ends."""

    def __init__(self, lane: Lane, call: Call, work: Callable[[threading.Event], Result], settings: Settings) -> None:
        """Queue `work`, which receives the event that tells it to stop, in a lane of the pool.

        Raises:
            ServiceError: UNAVAILABLE, the queue is full or the pool is closed.
        """
        self._call = call
        self._settings = settings
        self._outcome: list[Result | Exception] = []
        self._finished = threading.Event()
        self._job = Job(lambda cancel: self._run(work, cancel), threading.Event(), self._finished)
        lane.submit(self._job)
        self._cancel = lambda: lane.cancel(self._job)
        call.on_end(self._cancel)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is over; False when `timeout_s` passed before."""
        return self._finished.wait(timeout_s)

    def result(self) -> Result:
        """What the work returned, once it is over; it is handed over and not kept, so it may be asked for once.

        Raises:
            ServiceError: Nobody waits any more, or the server shuts down.
            Exception: Whatever the work raised.
        """
        self.wait()
        # of the many runs of a stream none is to be kept
        self._call.forget(self._cancel)
        if self._call.ended.is_set():
            raise nobody_waits(self._call)
        if self._job.dropped:
            raise busy("SHUTTING_DOWN", "the server is shutting down", self._settings.retry_delay_s)
        outcome = self._outcome.pop()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _run(self, work: Callable[[threading.Event], Result], cancel: threading.Event) -> None:
        try:
            self._outcome.append(work(cancel))
        except Exception as error:
            self._outcome.append(error)


def in_order(begin: Callable[[int], PoolRun[Result]], count: int, ahead: int) -> Iterator[Result]:
    """Results of so many runs in their order, the next of which are under way while the caller works with one.

    Args:
        begin: Begins the run of a number.
        count: Number of runs.
        ahead: Runs that are under way or wait for the caller, at least 1, so that memory stays bounded.
    """
    running = deque(begin(k) for k in range(min(ahead, count)))
    for k in range(count):
        result = running.popleft().result()
        if k + ahead < count:
            running.append(begin(k + ahead))
        yield result


def solve_time_s(settings: Settings, remaining_s: float) -> float:
    """Longest solve that leaves a margin for encoding, storing and sending, at most a fifth of what is left.

    gRPC rounds a client's timeout up by as much as a hundredth, so that much more is kept back.

    Raises:
        ServiceError: DEADLINE_EXCEEDED, nothing is left.
    """
    margin_s = settings.deadline_margin_s + _ROUNDING_RATIO * remaining_s
    return time_left_s(remaining_s - min(margin_s, _LARGEST_MARGIN_RATIO * remaining_s))


def time_left_s(left_s: float) -> float:
    """The same number.

    Raises:
        ServiceError: DEADLINE_EXCEEDED, nothing is left.
    """
    if left_s <= 0.0:
        raise ServiceError(
            code_pb2.DEADLINE_EXCEEDED,
            "DEADLINE_TOO_SHORT",
            "too little of the deadline is left to solve and answer",
        )
    return left_s


def nobody_waits(call: Call) -> ServiceError:
    """Why a call that ended has no answer."""
    if call.deadline_s is not None and time.monotonic() >= call.deadline_s:
        return ServiceError(
            code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the deadline passed before a plan was made"
        )
    return ServiceError(code_pb2.CANCELLED, "CANCELLED", "the caller went away")
