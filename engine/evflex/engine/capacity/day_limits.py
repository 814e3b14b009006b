"""Loss of life by day: which steps count in which day, and what a day may lose.

Days are 24 hours each from the grid's start. A step across the end of a day counts in both in proportion to its time. A
day that the grid holds only a part of may lose that part of the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.supply_tree import FloatArray, IntArray
from evflex.engine.timegrid import TimeGrid

_DAY_H = 24.0


@dataclass(frozen=True, slots=True)
class Days:
    """Days of a grid.

    Attributes:
        first: Day in which each step begins, (T,).
        share: Share of each step that lies in that day; the rest lies in the next, (T,).
        part: Part of each day that the grid holds, (D,).
    """

    first: IntArray
    share: FloatArray
    part: FloatArray

    @classmethod
    def of(cls, grid: TimeGrid) -> Days:
        """Days of a grid, which hold at least as much of a step as can be told from rounding."""
        begin_h = np.arange(grid.step_count) * grid.step_h
        first = np.floor(begin_h / _DAY_H + 1e-9).astype(np.int64)
        share = np.minimum((_DAY_H * (first + 1) - begin_h) / grid.step_h, 1.0)
        share[share > 1.0 - 1e-9] = 1.0
        count = int(first[-1]) + (2 if share[-1] < 1.0 else 1)
        end_h = grid.step_count * grid.step_h
        part = np.minimum((end_h - _DAY_H * np.arange(count)) / _DAY_H, 1.0)
        return cls(first, share, part)

    def sums(self, per_step: FloatArray) -> FloatArray:
        """Sum of each day; steps are the first axis, (D, …)."""
        total = np.zeros((self.part.shape[0], *per_step.shape[1:]))
        share = self.share.reshape(-1, *(1 for _ in per_step.shape[1:]))
        np.add.at(total, self.first, share * per_step)
        over = np.flatnonzero(self.share < 1.0)
        np.add.at(total, self.first[over] + 1, ((1.0 - share) * per_step)[over])
        return total
