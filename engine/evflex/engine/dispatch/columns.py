"""Columns: what blocks of assets would do at some prices, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evflex.engine.supply_tree import FloatArray

# Figures of a column; all but the last two are money.
IMPORT_COST, EXPORT_REVENUE, DISCHARGE_COST, SHORTFALL_COST, ENERGY_VALUE, SHORTFALL_KWH = range(6)
FIGURES = 6
# Sign with which a figure counts in the cost.
COST_SIGN = np.array([1.0, -1.0, 1.0, 1.0, -1.0, 0.0])


@dataclass(frozen=True, slots=True)
class Columns:
    """One column of each block.

    Attributes:
        power_kw: Sum of the powers of the block's assets, (B, T).
        figures: What it costs without the prices of limits, (B, 6).
        least: Proven least cost of any behaviour of the block at the prices asked, (B,).
    """

    power_kw: FloatArray
    figures: FloatArray
    least: FloatArray

    @property
    def cost(self) -> FloatArray:
        """Money without the prices of limits, (B,)."""
        cost: FloatArray = self.figures @ COST_SIGN
        return cost

    @classmethod
    def joined(cls, parts: Sequence[Columns], step_count: int) -> Columns:
        """Blocks of several parts, one after the other."""
        if not parts:
            return cls(np.empty((0, step_count)), np.empty((0, FIGURES)), np.empty(0))
        return cls(
            np.concatenate([part.power_kw for part in parts]),
            np.concatenate([part.figures for part in parts]),
            np.concatenate([part.least for part in parts]),
        )
