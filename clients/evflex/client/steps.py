"""Values by step: one number for all steps or one for each, and arrays of an answer by time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PerStep = float | Sequence[float] | NDArray[np.float64] | pd.Series
"""One number for all steps, or one for each step."""


def per_step(values: PerStep | None) -> list[float]:
    """Entries of a repeated field: none, one for all steps, or one for each step."""
    if values is None:
        return []
    numbers: list[float] = np.atleast_1d(np.asarray(values, dtype=np.float64)).tolist()
    return numbers


def by_time(flat: Sequence[float], index: pd.DatetimeIndex, name: str) -> pd.Series:
    """Entries of a repeated field by time; a field that a listing leaves out is empty."""
    values = np.asarray(flat, dtype=np.float64)
    return pd.Series(values, index=index[: len(values)], name=name)
