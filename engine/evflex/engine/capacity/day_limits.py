"""Loss of life by day: which steps count in which day, and what a day may lose.

Days are 24 hours each from the grid's start. A step belongs to the day in which it begins, and a day may lose its limit
in proportion to the time of the steps that belong to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.kernels import inner_kernel, kernel
from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

_DAY_H = 24.0
# A step that begins at the end of a day must not fall before it by rounding.
_ROUNDING_DAYS = 1e-9


@dataclass(frozen=True, slots=True)
class Days:
    """Days of a grid.

    Attributes:
        of_step: Day to which each step belongs, rising, (T,).
        part: Time of the steps of each day over 24 hours, (D,).
    """

    of_step: IntArray
    part: FloatArray

    @classmethod
    def of(cls, grid: TimeGrid) -> Days:
        """Days of a grid."""
        of_step = np.empty(grid.step_count, dtype=np.int64)
        _fill_days(_DAY_H / grid.step_h, of_step)
        return cls(of_step, np.bincount(of_step).astype(np.float64) * (grid.step_h / _DAY_H))

    def limits_h(self, max_loss_of_life_h_per_day: float) -> FloatArray:
        """Largest loss of life of each day, (D,)."""
        return max_loss_of_life_h_per_day * self.part

    def sums(self, per_step: FloatArray) -> FloatArray:
        """Sum of each day; steps are the first axis, (D, …)."""
        return np.add.reduceat(per_step, np.flatnonzero(np.diff(self.of_step, prepend=-1)), axis=0)


@inner_kernel
def day_of(step: int, steps_per_day: float) -> int:
    """Day in which a step begins."""
    return int(step / steps_per_day + _ROUNDING_DAYS)


@kernel
def _fill_days(steps_per_day: float, of_step: IntArray) -> None:
    for k in range(of_step.shape[0]):
        of_step[k] = day_of(k, steps_per_day)
