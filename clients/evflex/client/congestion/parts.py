"""Answers that come in parts, over lost connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from evflex.client.aio_transport import AsyncTransport
from evflex.client.errors import EvflexError
from evflex.client.operations import Operation, RequestT, ResponseT
from evflex.client.transport import Transport

Answer = TypeVar("Answer", bound=Message, contravariant=True)
Part = TypeVar("Part", covariant=True)


class PartStream(Protocol[Answer, Part]):
    """Reads the messages of a stream, which may begin anew."""

    def begin(self) -> None:
        """The stream begins, perhaps again; parts that were handed out stay so."""

    def accept(self, message: Answer) -> Sequence[Part]:
        """Take a message; parts that are new are returned.

        Raises:
            ServerError: The message breaks the contract.
        """

    def check_ended(self) -> None:
        """Take the end of the stream.

        Raises:
            ServerError: Something is missing.
        """


def read_parts(
    transport: Transport,
    operation: Operation[RequestT, ResponseT],
    request: RequestT,
    stream: PartStream[ResponseT, Part],
    timeout_s: float | None,
) -> Generator[Part]:
    """Call an RPC that streams its answer, again where that helps.

    Args:
        transport: Channel.
        operation: RPC.
        request: Request.
        stream: Reads the answer.
        timeout_s: Time for all attempts and pauses; None takes the operation's default.

    Raises:
        EvflexError: The call failed for good.
    """
    attempts = transport.attempts(operation, timeout_s)
    while True:
        stream.begin()
        try:
            answers = transport.server_stream(operation, request, attempts.remaining_s())
            with closing(answers):
                for message in answers:
                    for part in stream.accept(message):
                        attempts.succeeded()
                        yield part
            stream.check_ended()
            return
        except EvflexError as error:
            transport.pause(attempts, error)


async def read_parts_async(
    transport: AsyncTransport,
    operation: Operation[RequestT, ResponseT],
    request: RequestT,
    stream: PartStream[ResponseT, Part],
    timeout_s: float | None,
) -> AsyncGenerator[Part]:
    """As :func:`read_parts`, for asyncio."""
    attempts = transport.attempts(operation, timeout_s)
    while True:
        stream.begin()
        try:
            answers = transport.server_stream(operation, request, attempts.remaining_s())
            async with aclosing(answers):
                async for message in answers:
                    for part in stream.accept(message):
                        attempts.succeeded()
                        yield part
            stream.check_ended()
            return
        except EvflexError as error:
            await transport.pause(attempts, error)
