"""The time axis of a request, and powers spread over it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from evflex.client.steps import PerStep
from evflex.client.timegrid import TimeGrid


def time_axis(time_grid: TimeGrid | None, *values: object) -> TimeGrid:
    """The time axis that was given, or that of the first table or Series with a time index.

    Raises:
        ValueError: There is none, or an index is no time axis.
    """
    if time_grid is not None:
        return time_grid
    for given in values:
        if isinstance(given, pd.Series | pd.DataFrame) and isinstance(given.index, pd.DatetimeIndex):
            return TimeGrid.from_index(given.index)
    raise ValueError("give time_grid, or powers as a Series with a time index")


def every_step(values: PerStep, step_count: int) -> list[float]:
    """One number a step; a single number holds for all."""
    numbers = np.asarray(values, dtype=np.float64)
    spread: list[float] = (np.full(step_count, numbers) if numbers.ndim == 0 else numbers).tolist()
    return spread
