"""A stream of ``TrackCapacity``, synchronous."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from evflex.capacity.v1 import tracking_pb2 as pb
from evflex.client.capacity.operations import TRACK_CAPACITY
from evflex.client.capacity.tracking import TrackingAnswer, TrackingHeader, TrackingMessage
from evflex.client.errors import CallCancelledError, DeadlineExceededError, EvflexError
from evflex.client.transport import Transport

# a server that has not warmed up compiles first
OPENING_TIMEOUT_S = 60.0
CLOSING_TIMEOUT_S = 5.0


class CapacityTracking:
    """A transformer being tracked, for as long as the ``with`` block runs; afterwards its hubs fall to firm capacity.

    Any thread may send; answers are read by one thread at a time. Each message that is sent is answered, and silence
    may bring further answers.

    Attributes:
        opening: Answer to the header: the capacities to begin with.
    """

    opening: TrackingAnswer

    def __init__(self, transport: Transport, header: TrackingHeader, timeout_s: float | None) -> None:
        """Prepare the stream; it is opened by ``with``."""
        self._transport = transport
        self._header = header.to_message()
        self._timeout_s = timeout_s
        self._reading = threading.Lock()
        self._ended = False

    def __enter__(self) -> Self:
        """Open the stream, again where that helps.

        Raises:
            UnavailableError: Somebody else tracks this transformer, or the server stays busy.
            InvalidRequestError: The header breaks rules.
            EvflexError: The stream could not be opened otherwise.
        """
        attempts = self._transport.attempts(TRACK_CAPACITY, OPENING_TIMEOUT_S)
        while True:
            self._begin()
            try:
                self.opening = self._next(attempts.remaining_s())
                return self
            except TimeoutError:
                self._abort()
                raise not_begun(self._transport.connection.address) from None
            except EvflexError as error:
                self._abort()
                self._transport.pause(attempts, error)
            except BaseException:
                self._abort()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._abort()

    def __iter__(self) -> Iterator[TrackingAnswer]:
        """Answers as they come, until the stream ends."""
        while True:
            try:
                answer = self.receive()
            except CallCancelledError:
                return
            yield answer

    def send(self, message: TrackingMessage) -> None:
        """Send a measurement or changes; does not wait. A failure of the stream is told by :meth:`receive`.

        Raises:
            CallCancelledError: The stream is known to have ended.
            ValueError: The message cannot be written.
        """
        written = message.to_message()
        if self._ended:
            raise ended()
        self._outgoing.put(written)

    def receive(self, timeout_s: float | None = None) -> TrackingAnswer:
        """Wait for the next answer.

        Args:
            timeout_s: Longest wait; None waits until there is one.

        Raises:
            TimeoutError: No answer came in time; nothing is lost, and a later call gets it.
            CallCancelledError: The stream has ended.
            EvflexError: The stream failed.
        """
        with self._reading:
            return self._next(timeout_s)

    def finish(self) -> None:
        """Send nothing more; answers that are still to come can be read, then the stream ends."""
        self._outgoing.put(None)

    def close(self) -> None:
        """End the stream; answers that have not been read are lost. May be called by any thread, and twice."""
        self.finish()
        with contextlib.suppress(EvflexError, TimeoutError):
            # the server ends its side; a reader in another thread sees the end itself
            while self._reading.acquire(blocking=False):
                try:
                    self._next(CLOSING_TIMEOUT_S)
                finally:
                    self._reading.release()
        self._abort()

    def _begin(self) -> None:
        self._ended = False
        self._pending: Future[pb.TrackCapacityResponse] | None = None
        self._outgoing: queue.SimpleQueue[pb.TrackCapacityRequest | None] = queue.SimpleQueue()
        self._outgoing.put(self._header)
        stream = self._transport.cancellable_stream(TRACK_CAPACITY, iter(self._outgoing.get, None), self._timeout_s)
        self._answers: Generator[pb.TrackCapacityResponse] = stream[0]
        self._cancel: Callable[[], object] = stream[1]
        # one thread that waits for an answer, so that the caller may stop waiting without losing it
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="evflex-track")

    def _next(self, timeout_s: float | None) -> TrackingAnswer:
        if self._ended:
            raise ended()
        if self._pending is None:
            self._pending = self._reader.submit(_following, self._answers)
        pending = self._pending
        try:
            answer = pending.result(timeout_s)
        except TimeoutError:
            raise
        except BaseException:
            self._ended = pending.done()
            raise
        self._pending = None
        return TrackingAnswer.from_message(answer)

    def _abort(self) -> None:
        self._ended = True
        # gRPC's own thread waits for requests until it is told that there are none
        self._outgoing.put(None)
        self._cancel()
        self._reader.shutdown(wait=True)


def _following(answers: Iterator[pb.TrackCapacityResponse]) -> pb.TrackCapacityResponse:
    """The next answer; the end of the stream is an error, because a future cannot hold StopIteration."""
    for answer in answers:
        return answer
    raise ended()


def ended() -> CallCancelledError:
    """Error of a call on a stream that is over."""
    return CallCancelledError("the tracking has ended", code="CANCELLED", operation=TRACK_CAPACITY.name)


def not_begun(server: str) -> DeadlineExceededError:
    """Error of a stream whose header was not answered."""
    message = f"the header was not answered within {OPENING_TIMEOUT_S:g} s"
    return DeadlineExceededError(message, code="DEADLINE_EXCEEDED", server=server, operation=TRACK_CAPACITY.name)
