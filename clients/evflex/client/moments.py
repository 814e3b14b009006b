"""Durations and timestamps of messages."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def duration_message(length: timedelta | None) -> Duration | None:
    """A duration as messages have it; None is not set."""
    if length is None:
        return None
    message = Duration()
    message.FromTimedelta(length)
    return message


def timestamp(message: Message, name: str) -> pd.Timestamp | None:
    """A timestamp field (UTC); None where it is not set."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return pd.Timestamp(stamp.ToNanoseconds(), unit="ns", tz="UTC")


def timestamp_message(instant: pd.Timestamp | None, name: str) -> Timestamp | None:
    """An instant as messages have it; None is not set.

    Args:
        instant: Instant with a time zone.
        name: What it is, for the error.

    Raises:
        ValueError: It has no time zone.
    """
    if instant is None:
        return None
    stamp = pd.Timestamp(instant)
    if stamp.tzinfo is None:
        raise ValueError(f"{name} must have a time zone")
    message = Timestamp()
    message.FromNanoseconds(stamp.as_unit("ns").value)
    return message
