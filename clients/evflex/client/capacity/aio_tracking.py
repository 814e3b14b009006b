"""A stream of ``TrackCapacity``, asynchronous: the twin of :mod:`evflex.client.capacity.sync_tracking`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Self

from evflex.capacity.v1 import tracking_pb2 as pb
from evflex.client.aio_transport import AsyncTransport
from evflex.client.capacity.operations import TRACK_CAPACITY
from evflex.client.capacity.sync_tracking import CLOSING_TIMEOUT_S, OPENING_TIMEOUT_S, ended, not_begun
from evflex.client.capacity.tracking import TrackingAnswer, TrackingHeader, TrackingMessage
from evflex.client.errors import CallCancelledError, EvflexError


class AsyncCapacityTracking:
    """A transformer being tracked, for as long as the ``async with`` block runs.

    Tasks may send at any time; answers are read by one task at a time. Methods and errors are those of
    :class:`evflex.client.capacity.sync_tracking.CapacityTracking`.

    Attributes:
        opening: Answer to the header: the capacities to begin with.
    """

    opening: TrackingAnswer

    def __init__(self, transport: AsyncTransport, header: TrackingHeader, timeout_s: float | None) -> None:
        """Prepare the stream; it is opened by ``async with``."""
        self._transport = transport
        self._header = header.to_message()
        self._timeout_s = timeout_s
        self._reading = asyncio.Lock()
        self._ended = False

    async def __aenter__(self) -> Self:
        """Open the stream, again where that helps."""
        attempts = self._transport.attempts(TRACK_CAPACITY, OPENING_TIMEOUT_S)
        while True:
            self._begin()
            try:
                self.opening = await self._next(attempts.remaining_s())
                return self
            except TimeoutError:
                await self._abort()
                raise not_begun(self._transport.connection.address) from None
            except EvflexError as error:
                await self._abort()
                await self._transport.pause(attempts, error)
            except BaseException:
                await self._abort()
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self._abort()

    async def __aiter__(self) -> AsyncIterator[TrackingAnswer]:
        """Answers as they come, until the stream ends."""
        while True:
            try:
                answer = await self.receive()
            except CallCancelledError:
                return
            yield answer

    def send(self, message: TrackingMessage) -> None:
        """Send a measurement or changes; does not wait."""
        written = message.to_message()
        if self._ended:
            raise ended()
        self._outgoing.put_nowait(written)

    async def receive(self, timeout_s: float | None = None) -> TrackingAnswer:
        """Wait for the next answer."""
        async with self._reading:
            return await self._next(timeout_s)

    def finish(self) -> None:
        """Send nothing more; answers that are still to come can be read, then the stream ends."""
        self._outgoing.put_nowait(None)

    async def close(self) -> None:
        """End the stream; answers that have not been read are lost."""
        self.finish()
        with contextlib.suppress(EvflexError, TimeoutError):
            # the server ends its side; a reader in another task sees the end itself
            while not self._reading.locked():
                async with self._reading:
                    await self._next(CLOSING_TIMEOUT_S)
        await self._abort()

    def _begin(self) -> None:
        self._ended = False
        self._pending: asyncio.Task[pb.TrackCapacityResponse] | None = None
        self._outgoing: asyncio.Queue[pb.TrackCapacityRequest | None] = asyncio.Queue()
        self._outgoing.put_nowait(self._header)
        self._answers: AsyncGenerator[pb.TrackCapacityResponse] = self._transport.stream(
            TRACK_CAPACITY, _requests(self._outgoing), self._timeout_s
        )

    async def _next(self, timeout_s: float | None) -> TrackingAnswer:
        if self._ended:
            raise ended()
        if self._pending is None:
            self._pending = asyncio.create_task(_following(self._answers))
        # waiting for the task, not in it: who stops waiting does not end the stream
        done, _ = await asyncio.wait({self._pending}, timeout=timeout_s)
        if not done:
            raise TimeoutError
        task, self._pending = self._pending, None
        try:
            return TrackingAnswer.from_message(task.result())
        except asyncio.CancelledError:
            raise ended() from None
        except BaseException:
            self._ended = True
            raise

    async def _abort(self) -> None:
        self._ended = True
        self._outgoing.put_nowait(None)
        if self._pending is not None:
            self._pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, EvflexError):
                await self._pending
        await self._answers.aclose()


async def _requests(
    outgoing: asyncio.Queue[pb.TrackCapacityRequest | None],
) -> AsyncIterator[pb.TrackCapacityRequest]:
    while (message := await outgoing.get()) is not None:
        yield message


async def _following(answers: AsyncGenerator[pb.TrackCapacityResponse]) -> pb.TrackCapacityResponse:
    """The next answer; the end of the stream is an error, as for threads."""
    async for answer in answers:
        return answer
    raise ended()
