"""Rows of answers as tables: steps as rows, buses or branches as columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evflex.client.timegrid import TimeGrid

PHASES = ("L1", "L2", "L3")


def step_index(grid: TimeGrid | None, step_count: int) -> pd.Index:
    """Start of each step (UTC), or its number where there is no time axis."""
    return pd.RangeIndex(step_count, name="step") if grid is None else grid.index


def element_columns(ids: Sequence[str], name: str, phase_count: int = 1) -> pd.Index:
    """Columns of buses or branches; of three phases pairs of identifier and ``L1``, ``L2``, ``L3``."""
    if phase_count == 1:
        return pd.Index(list(ids), name=name, dtype=object)
    return pd.MultiIndex.from_product([list(ids), PHASES[:phase_count]], names=[name, "phase"])


def steps_table(values: NDArray[np.float64], index: pd.Index, columns: pd.Index) -> pd.DataFrame:
    """A matrix, steps x columns, as a table. The array is not copied."""
    return pd.DataFrame(values, index=index, columns=columns, copy=False)
