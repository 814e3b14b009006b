"""The call itself, for asyncio: the twin of :mod:`evflex.client.transport`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import cast

import grpc
import grpc.aio

from evflex.client.errors import EvflexError, FinishedCall
from evflex.client.operations import Connection, Operation, RequestT, ResponseT
from evflex.client.retry import Attempts


class AsyncTransport:
    """A channel to one server, bound to the running event loop."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        options = list(connection.channel_options)
        if connection.credentials is None:
            self._channel = grpc.aio.insecure_channel(connection.address, options=options)
        else:
            self._channel = grpc.aio.secure_channel(connection.address, connection.credentials, options=options)

    async def close(self) -> None:
        """End the connection and all calls on it."""
        await self._channel.close(None)

    async def unary(
        self, operation: Operation[RequestT, ResponseT], request: RequestT, timeout_s: float | None = None
    ) -> ResponseT:
        """Call an RPC with one request and one answer, again where that helps.

        Raises:
            EvflexError: The call failed for good.
        """
        call = self._channel.unary_unary(
            operation.path,
            request_serializer=operation.request_type.SerializeToString,
            response_deserializer=operation.response_type.FromString,
        )
        attempts = self.attempts(operation, timeout_s)
        request_id = str(uuid.uuid4())
        while True:
            try:
                answer: ResponseT = await call(
                    request, timeout=attempts.remaining_s(), metadata=self.connection.pairs(request_id)
                )
                return answer
            except grpc.aio.AioRpcError as error:
                await self.pause(attempts, self.error(error, operation, request_id))

    async def client_stream(
        self,
        operation: Operation[RequestT, ResponseT],
        requests: Callable[[], Iterator[RequestT]],
        timeout_s: float | None = None,
    ) -> ResponseT:
        """Call an RPC with many requests and one answer; otherwise as :meth:`unary`."""
        call = self._channel.stream_unary(
            operation.path,
            request_serializer=operation.request_type.SerializeToString,
            response_deserializer=operation.response_type.FromString,
        )
        attempts = self.attempts(operation, timeout_s)
        request_id = str(uuid.uuid4())
        while True:
            try:
                answer: ResponseT = await call(
                    requests(), timeout=attempts.remaining_s(), metadata=self.connection.pairs(request_id)
                )
                return answer
            except grpc.aio.AioRpcError as error:
                await self.pause(attempts, self.error(error, operation, request_id))

    async def pages(
        self, operation: Operation[RequestT, ResponseT], request: RequestT, timeout_s: float | None = None
    ) -> AsyncIterator[ResponseT]:
        """Pages of a listing, fetched as they are needed."""
        while True:
            page = await self.unary(operation, request, timeout_s)
            yield page
            token: str = page.next_page_token  # type: ignore[attr-defined]
            if not token:
                return
            request.page_token = token  # type: ignore[attr-defined]

    def stream(
        self,
        operation: Operation[RequestT, ResponseT],
        requests: Iterator[RequestT] | AsyncIterator[RequestT],
        timeout_s: float | None = None,
    ) -> AsyncGenerator[ResponseT]:
        """Call an RPC with many requests and many answers once, without retries.

        Raises:
            EvflexError: The call failed.
        """
        call = self._channel.stream_stream(
            operation.path,
            request_serializer=operation.request_type.SerializeToString,
            response_deserializer=operation.response_type.FromString,
        )
        request_id = str(uuid.uuid4())
        begun = call(requests, timeout=timeout_s, metadata=self.connection.pairs(request_id))
        return self._answers(begun, operation, request_id)

    def server_stream(
        self, operation: Operation[RequestT, ResponseT], request: RequestT, timeout_s: float | None = None
    ) -> AsyncGenerator[ResponseT]:
        """Call an RPC with one request and many answers once; otherwise as :meth:`stream`."""
        call = self._channel.unary_stream(
            operation.path,
            request_serializer=operation.request_type.SerializeToString,
            response_deserializer=operation.response_type.FromString,
        )
        request_id = str(uuid.uuid4())
        begun = call(request, timeout=timeout_s, metadata=self.connection.pairs(request_id))
        return self._answers(begun, operation, request_id)

    def attempts(self, operation: Operation[RequestT, ResponseT], timeout_s: float | None) -> Attempts:
        """Count the attempts of a new call."""
        limit = operation.timeout_s if timeout_s is None else timeout_s
        return Attempts(self.connection.retry, limit)

    def error(
        self, error: grpc.aio.AioRpcError, operation: Operation[RequestT, ResponseT], request_id: str
    ) -> EvflexError:
        """Exception for a failed call, with gRPC's own as its cause."""
        translated = self.connection.error(cast(FinishedCall, error), operation.name, request_id)
        translated.__cause__ = error
        return translated

    @staticmethod
    async def pause(attempts: Attempts, error: EvflexError) -> None:
        """Wait before the next attempt, or raise ``error``."""
        await asyncio.sleep(attempts.pause_or_raise(error))

    async def _answers(
        self,
        call: grpc.aio.UnaryStreamCall[RequestT, ResponseT] | grpc.aio.StreamStreamCall[RequestT, ResponseT],
        operation: Operation[RequestT, ResponseT],
        request_id: str,
    ) -> AsyncGenerator[ResponseT]:
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self.error(error, operation, request_id) from error
        finally:
            # the caller may have stopped reading
            call.cancel()
