"""The time axis of a request and its answer, as pandas knows it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pandas as pd

from evflex.common.v1 import time_grid_pb2


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Equal steps from an instant; step k covers [start + k·step, start + (k + 1)·step).

    Attributes:
        start_time: Start of step 0, with a time zone.
        step_duration: Length of a step, 1 s to 1 day.
        step_count: Number of steps.
    """

    start_time: pd.Timestamp
    step_duration: timedelta
    step_count: int

    @classmethod
    def from_index(cls, index: pd.DatetimeIndex) -> TimeGrid:
        """Time grid whose steps start at the entries of ``index``.

        Raises:
            ValueError: The index has no time zone, fewer than two entries, or unequal steps.
        """
        if index.tz is None:
            raise ValueError("the index must have a time zone, for example index.tz_localize('UTC')")
        if len(index) < 2:
            raise ValueError("the index must have at least two entries, or give time_grid")
        utc = index.tz_convert("UTC")
        steps = (utc[1:] - utc[:-1]).unique()
        if len(steps) != 1 or steps[0] <= timedelta(0):
            raise ValueError("the index must rise in equal steps")
        return cls(utc[0], steps[0].to_pytimedelta(), len(utc))

    @classmethod
    def from_message(cls, message: time_grid_pb2.TimeGrid) -> TimeGrid:
        """Read a time grid of the contract."""
        start = pd.Timestamp(message.start_time.ToNanoseconds(), unit="ns", tz="UTC")
        return cls(start, message.step_duration.ToTimedelta(), message.step_count)

    @property
    def index(self) -> pd.DatetimeIndex:
        """Start of each step (UTC)."""
        if not self.step_count:
            # the empty schedule of a request that was only checked
            return pd.DatetimeIndex([], tz="UTC", name="time")
        start = pd.Timestamp(self.start_time).tz_convert("UTC").as_unit("ns")
        return pd.date_range(start, periods=self.step_count, freq=pd.Timedelta(self.step_duration), name="time")

    def to_message(self) -> time_grid_pb2.TimeGrid:
        """Write a time grid of the contract.

        Raises:
            ValueError: ``start_time`` has no time zone.
        """
        start = pd.Timestamp(self.start_time)
        if start.tzinfo is None:
            raise ValueError("start_time must have a time zone")
        message = time_grid_pb2.TimeGrid(step_count=self.step_count)
        message.start_time.FromNanoseconds(start.as_unit("ns").value)
        message.step_duration.FromTimedelta(self.step_duration)
        return message
