"""Bytes and messages: parsing that never raises, and serialising with a size limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2

from evflex.server.errors import ServiceError, limit_exceeded

# What to call instead of a unary RPC whose answer is too large.
STREAMING_ALTERNATIVE = {
    "/evflex.charging.v1.ChargingService/OptimizeSchedule": "use OptimizeSchedules, which streams the rows",
    "/evflex.charging.v1.ChargingService/GetSchedule": "name session_ids, or use WatchSchedules, which streams the rows",
    "/evflex.charging.v1.ChargingService/GetLatestSchedule": "name session_ids, or use WatchSchedules, which streams the rows",
    "/evflex.charging.v1.ChargingService/ListSchedules": "ask for a smaller page_size",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Stands for a request whose bytes are no message of its type."""

    size_bytes: int


def lenient(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """A deserializer that hands over :class:`Undecodable` where `parse` raises, which gRPC would call INTERNAL."""

    def deserialize(data: bytes) -> object:
        try:
            return parse(data)
        except (DecodeError, ValueError):
            return Undecodable(len(data))

    return deserialize


def decoded(request: object) -> object:
    """The request itself.

    Raises:
        ServiceError: It could not be decoded.
    """
    if isinstance(request, Undecodable):
        raise ServiceError(
            code_pb2.INVALID_ARGUMENT,
            "REQUEST_UNDECODABLE",
            f"the request's {request.size_bytes} bytes are no message of the method's request type",
        )
    return request


def serialized_unary(method: str, message: Message, most_bytes: int) -> bytes:
    """Bytes of a unary answer.

    Raises:
        ServiceError: There are more than `most_bytes`.
    """
    check_unary_size(method, message.ByteSize(), most_bytes)
    return message.SerializeToString()


def check_unary_size(method: str, size_bytes: int, most_bytes: int) -> None:
    """Raise RESOURCE_EXHAUSTED, with what to call instead, for an answer of more than `most_bytes`."""
    if size_bytes > most_bytes:
        advice = STREAMING_ALTERNATIVE.get(method, "ask for less")
        error = limit_exceeded("max_unary_answer_bytes", size_bytes, most_bytes, advice)
        error.message = (
            f"the answer has {size_bytes} bytes, more than max_unary_answer_bytes ({most_bytes}); {advice}"
        )
        raise error
