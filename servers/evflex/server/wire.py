"""Bytes and messages: parsing that never raises, and serialising with a size limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from numpy.typing import NDArray

from evflex.server.errors import ServiceError, limit_exceeded

_DELIMITED = 2
_CHARGING = "/evflex.charging.v1.ChargingService"
_DISPATCH = "/evflex.dispatch.v1.DispatchService"
_CAPACITY = "/evflex.capacity.v1.CapacityService"
_CONGESTION = "/evflex.congestion.v1.CongestionService"
_ACTIVATION = "/evflex.activation.v1.ActivationService"
# What to call instead of a unary RPC whose answer is too large.
STREAMING_ALTERNATIVE = {
    f"{_CHARGING}/OptimizeSchedule": "use OptimizeSchedules, which streams the rows",
    f"{_CHARGING}/GetSchedule": "name session_ids, or use WatchSchedules, which streams the rows",
    f"{_CHARGING}/GetLatestSchedule": "name session_ids, or use WatchSchedules, which streams the rows",
    f"{_CHARGING}/ListSchedules": "ask for a smaller page_size",
    f"{_DISPATCH}/ListPortfolios": "ask for a smaller page_size",
    f"{_DISPATCH}/ListPlans": "ask for a smaller page_size",
    f"{_CAPACITY}/RateTransformer": "ask for fewer steps",
    f"{_CAPACITY}/AllocateCapacity": "ask for fewer hubs, sessions or steps",
    f"{_CAPACITY}/GetAllocation": "name hub_ids",
    f"{_CAPACITY}/ListAllocations": "ask for a smaller page_size",
    f"{_CONGESTION}/ListNetworks": "ask for a smaller page_size",
    f"{_CONGESTION}/ListForecasts": "ask for a smaller page_size",
    f"{_CONGESTION}/ForecastLoad": "ask for fewer meters, steps or quantiles",
    f"{_ACTIVATION}/RegisterResources": "register fewer at once",
    f"{_ACTIVATION}/ListResources": "ask for a smaller page_size",
    f"{_ACTIVATION}/ListSessions": "ask for a smaller page_size",
    f"{_ACTIVATION}/ListCommitments": "ask for a smaller page_size",
}


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


def packed_doubles(field_number: int, values: NDArray[np.float64]) -> bytes:
    """An array as a packed `repeated double` field; merging it is 20 times faster than `extend(values.tolist())`."""
    return delimited(field_number, np.ascontiguousarray(values, dtype="<f8").tobytes()) if values.size else b""


def packed_bools(field_number: int, values: NDArray[np.bool_]) -> bytes:
    """An array as a packed `repeated bool` field."""
    return delimited(field_number, values.astype(np.uint8).tobytes()) if values.size else b""


def delimited(field_number: int, content: bytes) -> bytes:
    """A field of bytes as the wire has it: a string, a message, or packed numbers."""
    return varint(field_number << 3 | _DELIMITED) + varint(len(content)) + content


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
        error.message = f"the answer has {size_bytes} bytes, more than max_unary_answer_bytes ({most_bytes}); {advice}"
        raise error


def varint(value: int) -> bytes:
    """A number >= 0 as the wire has it."""
    if value < 0x80:
        return value.to_bytes(1, "little")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
