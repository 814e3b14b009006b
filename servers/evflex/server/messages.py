"""What messages of every domain need: copies, times, and how a solve ended."""

from __future__ import annotations

from typing import TypeVar, cast

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from evflex.common.v1 import termination_pb2
from evflex.engine.termination import Termination

Copied = TypeVar("Copied", bound=Message)
_MICROS = 1_000_000


def copy_of(message: Copied) -> Copied:
    """A message that can be changed; the other stays as it is."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def set_timestamp(into: Timestamp, unix_us: int) -> None:
    """Write a time given in microseconds since 1970-01-01 UTC."""
    into.seconds, micros = divmod(unix_us, _MICROS)
    into.nanos = 1_000 * micros


def timestamp(unix_us: int) -> Timestamp:
    """A timestamp from microseconds since 1970-01-01 UTC."""
    value = Timestamp()
    set_timestamp(value, unix_us)
    return value


def unix_ms(value: Timestamp) -> int:
    """Milliseconds since 1970-01-01 UTC, rounded down."""
    return value.seconds * 1_000 + value.nanos // 1_000_000


def set_termination(into: termination_pb2.Termination, termination: Termination) -> None:
    """Write how a solve ended."""
    # the numbers are the same in engine and contract; only their types differ
    into.reason = cast("termination_pb2.TerminationReason", termination.reason)
    into.stopped_by = cast("termination_pb2.StoppedBy", termination.stopped_by)
    into.objective = termination.objective
    into.objective_bound = termination.objective_bound
    into.absolute_gap = termination.absolute_gap
    into.relative_gap = termination.relative_gap
    into.solve_duration.FromNanoseconds(round(termination.solve_duration_s * 1e9))
    into.method = termination.method
    into.detail = termination.detail
