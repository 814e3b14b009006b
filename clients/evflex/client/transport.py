"""The call itself, synchronous: deadline, retries, errors. Messages of the contract in and out."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Self, cast

import grpc

from evflex.client.errors import EvflexError, FinishedCall
from evflex.client.operations import Connection, Operation, RequestT, ResponseT
from evflex.client.retry import Attempts


class Transport:
    """A channel to one server. May be shared by threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        options = connection.channel_options
        if connection.credentials is None:
            self._channel = grpc.insecure_channel(connection.address, options=options)
        else:
            self._channel = grpc.secure_channel(connection.address, connection.credentials, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and all calls on it."""
        self._channel.close()

    def unary(
        self, operation: Operation[RequestT, ResponseT], request: RequestT, timeout_s: float | None = None
    ) -> ResponseT:
        """Call an RPC with one request and one answer, again where that helps.

        Args:
            operation: RPC.
            request: Request.
            timeout_s: Time for all attempts and pauses; None takes the operation's default.

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
                answer: ResponseT = call(
                    request, timeout=attempts.remaining_s(), metadata=self.connection.pairs(request_id)
                )
                return answer
            except grpc.RpcError as error:
                self.pause(attempts, self.error(error, operation, request_id))

    def client_stream(
        self,
        operation: Operation[RequestT, ResponseT],
        requests: Callable[[], Iterator[RequestT]],
        timeout_s: float | None = None,
    ) -> ResponseT:
        """Call an RPC with many requests and one answer; otherwise as :meth:`unary`.

        Args:
            operation: RPC.
            requests: Begins the requests of an attempt; they are pulled in another thread.
            timeout_s: Time for all attempts and pauses; None takes the operation's default.
        """
        call = self._channel.stream_unary(
            operation.path,
            request_serializer=operation.request_type.SerializeToString,
            response_deserializer=operation.response_type.FromString,
        )
        attempts = self.attempts(operation, timeout_s)
        request_id = str(uuid.uuid4())
        while True:
            try:
                answer: ResponseT = call(
                    requests(), timeout=attempts.remaining_s(), metadata=self.connection.pairs(request_id)
                )
                return answer
            except grpc.RpcError as error:
                self.pause(attempts, self.error(error, operation, request_id))

    def pages(
        self, operation: Operation[RequestT, ResponseT], request: RequestT, timeout_s: float | None = None
    ) -> Iterator[ResponseT]:
        """Pages of a listing, fetched as they are needed.

        Args:
            operation: RPC whose request has a ``page_token`` and whose answer has a ``next_page_token``.
            request: Request for the first page.
            timeout_s: Time for each page.

        Raises:
            EvflexError: A call failed for good.
        """
        while True:
            page = self.unary(operation, request, timeout_s)
            yield page
            token: str = page.next_page_token  # type: ignore[attr-defined]
            if not token:
                return
            request.page_token = token  # type: ignore[attr-defined]

    def stream(
        self,
        operation: Operation[RequestT, ResponseT],
        requests: Iterator[RequestT],
        timeout_s: float | None = None,
    ) -> Generator[ResponseT]:
        """Call an RPC with many requests and many answers once, without retries.

        Args:
            operation: RPC.
            requests: Requests; pulled in another thread.
            timeout_s: Time for the call; None is no limit.

        Yields:
            Answers as they come.

        Raises:
            EvflexError: The call failed.
        """
        return self.cancellable_stream(operation, requests, timeout_s)[0]

    def cancellable_stream(
        self,
        operation: Operation[RequestT, ResponseT],
        requests: Iterator[RequestT],
        timeout_s: float | None = None,
    ) -> tuple[Generator[ResponseT], Callable[[], object]]:
        """As :meth:`stream`, with what ends the call from any thread, also while another waits for an answer."""
        call = self._channel.stream_stream(
            operation.path,
            request_serializer=operation.request_type.SerializeToString,
            response_deserializer=operation.response_type.FromString,
        )
        request_id = str(uuid.uuid4())
        begun = call(requests, timeout=timeout_s, metadata=self.connection.pairs(request_id))
        return self._answers(begun, operation, request_id), begun.cancel

    def server_stream(
        self, operation: Operation[RequestT, ResponseT], request: RequestT, timeout_s: float | None = None
    ) -> Generator[ResponseT]:
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

    def error(self, error: grpc.RpcError, operation: Operation[RequestT, ResponseT], request_id: str) -> EvflexError:
        """Exception for a failed call, with gRPC's own as its cause."""
        translated = self.connection.error(cast(FinishedCall, error), operation.name, request_id)
        translated.__cause__ = error
        return translated

    @staticmethod
    def pause(attempts: Attempts, error: EvflexError) -> None:
        """Wait before the next attempt, or raise ``error``."""
        time.sleep(attempts.pause_or_raise(error))

    def _answers(
        self, call: grpc.CallIterator[ResponseT], operation: Operation[RequestT, ResponseT], request_id: str
    ) -> Generator[ResponseT]:
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.error(error, operation, request_id) from error
        finally:
            # the caller may have stopped reading
            call.cancel()  # type: ignore[no-untyped-call]
