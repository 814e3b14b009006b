"""Times of the ledger: whole milliseconds since 1970-01-01 UTC."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from evflex.engine.validation import Rules
from evflex.server.fields import timestamp_s
from evflex.server.messages import set_timestamp, unix_ms


def read_ms(rules: Rules, path: str, value: Timestamp) -> int:
    """A time in milliseconds; reports one that is no valid time, or no whole number of them."""
    timestamp_s(rules, path, value)
    rules.check(value.nanos % 1_000_000 == 0, path, f"must be in whole milliseconds, has {value.nanos} nanos")
    return unix_ms(value)


def set_ms(into: Timestamp, time_ms: int) -> None:
    """Write a time given in milliseconds."""
    set_timestamp(into, 1_000 * time_ms)
