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
