"""The master program: the cheapest mixture of columns that keeps the shared rows, with prices held in a box.

    minimise Σ c_bj w_bj + Σ_rows penalty(y),   y = Σ_b Σ_j X_bj w_bj,   Σ_j w_bj = 1 for each block b,  w >= 0

where penalty(y) = max over prices μ in [low, high] of μ·y - (upper μ where μ > 0, else lower μ). With [low, high] as
wide as violation allows this is the cost of violation, and the mixture is the best plan of the columns; in a narrower
box the duals stay near prices that are known to be good while there are few columns (Marsten,
Hogan and Blankenship 1975).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from evflex.engine.budget import Budget
from evflex.engine.highs import INFINITY, LinearProgram, LpMethod, Solver
from evflex.engine.supply_tree import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Mixture:
    """Answer of the master.

    Attributes:
        weight: Weight of each column added so far, (columns,).
        price: Price of each row, positive where the upper side binds, (L, T).
        objective: What the columns promise: no price in the box can prove more.
    """

    weight: FloatArray
    price: FloatArray
    objective: float


class Master:
    """Columns come, mixtures and prices go."""

    def __init__(
        self, lower_kw: FloatArray, upper_kw: FloatArray, blocks: int, power_scale: float, cost_scale: float,
        budget: Budget,
    ) -> None:  # fmt: skip
        """Open the program without columns.

        Args:
            lower_kw: Least sum of each row, (L, T).
            upper_kw: Largest sum of each row, (L, T).
            blocks: Number of blocks.
            power_scale: Powers are solved in this unit in kW, so that a million assets look like one.
            cost_scale: Costs are solved in this unit.
            budget: Time and cancellation.
        """
        self._shape = lower_kw.shape
        self._power_scale, self._cost_scale = power_scale, cost_scale
        self._limited = np.isfinite(lower_kw) | np.isfinite(upper_kw)
        self._lower, self._upper = lower_kw[self._limited] / power_scale, upper_kw[self._limited] / power_scale
        self._rows, self._blocks = len(self._lower), blocks
        rows = np.arange(self._rows)
        ones = np.ones(self._rows)
        outside = sparse.csc_array(
            (np.concatenate([-ones, ones]), (np.concatenate([rows, rows]), np.arange(2 * self._rows))),
            shape=(self._rows + blocks, 2 * self._rows),
        )
        self._solver = Solver(
            LinearProgram(
                cost=np.zeros(2 * self._rows),
                column_lower=np.zeros(2 * self._rows),
                column_upper=np.full(2 * self._rows, INFINITY),
                matrix=outside,
                row_lower=np.concatenate([self._lower, np.ones(blocks)]),
                row_upper=np.concatenate([self._upper, np.ones(blocks)]),
                integer=np.zeros(2 * self._rows, dtype=bool),
            ),
            budget,
        )

    def hold(self, low: FloatArray, high: FloatArray) -> None:
        """Hold prices in [low, high], (L, T) each."""
        low, high = low[self._limited], high[self._limited]
        factor = self._power_scale / self._cost_scale
        rows = np.arange(self._rows)
        self._solver.set_costs_of(np.arange(2 * self._rows), np.concatenate([high, -low]) * factor)
        self._solver.set_row_bounds(
            rows, np.where(low > 0.0, self._upper, self._lower), np.where(high < 0.0, self._lower, self._upper)
        )

    def add(self, block: IntArray, power_kw: FloatArray, cost: FloatArray) -> None:
        """Add columns.

        Args:
            block: Block of each, (m,).
            power_kw: What each adds to the rows, (m, L, T).
            cost: Cost of each, (m,).
        """
        entries = power_kw[:, self._limited] / self._power_scale
        column, row = np.nonzero(entries)
        count = np.bincount(column, minlength=len(block)) + 1
        end = np.cumsum(count)
        rows, values = np.empty(end[-1], dtype=np.int64), np.empty(end[-1])
        # the last entry of a column is that of its block
        own = np.zeros(end[-1], dtype=bool)
        own[end - 1] = True
        rows[own], values[own] = self._rows + block, 1.0
        rows[~own], values[~own] = row, entries[column, row]
        self._solver.add_entries(cost / self._cost_scale, end - count, rows, values)

    def recost(self, cost: FloatArray) -> None:
        """Replace the costs of all columns added so far, (columns,)."""
        self._solver.set_costs_of(2 * self._rows + np.arange(len(cost)), cost / self._cost_scale)

    def solve(self) -> Mixture | None:
        """The cheapest mixture; None where time has run out."""
        solution = self._solver.solve(LpMethod.PRIMAL_SIMPLEX)
        if not solution.optimal:
            return None
        price = np.zeros(self._shape)
        price[self._limited] = -solution.row_dual[: self._rows] * self._cost_scale / self._power_scale
        return Mixture(np.maximum(solution.x[2 * self._rows :], 0.0), price, solution.objective * self._cost_scale)
