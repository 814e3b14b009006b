"""Times of the ledger: whole milliseconds since 1970-01-01 UTC."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from evflex.engine.validation import Rules
from evflex.server.fields import timestamp_s

_MILLI_NANOS = 1_000_000


def read_ms(rules: Rules, path: str, value: Timestamp) -> int:
    """A time in milliseconds; reports one that is no valid time, or no whole number of them."""
    timestamp_s(rules, path, value)
    rules.check(value.nanos % _MILLI_NANOS == 0, path, f"must be in whole milliseconds, has {value.nanos} nanos")
    return unix_ms(value)


def unix_ms(value: Timestamp) -> int:
    """Milliseconds of a time that is known to be whole."""
    return value.seconds * 1_000 + value.nanos // _MILLI_NANOS


def set_ms(into: Timestamp, time_ms: int) -> None:
    """Write a time given in milliseconds."""
    into.seconds, millis = divmod(time_ms, 1_000)
    into.nanos = millis * _MILLI_NANOS
