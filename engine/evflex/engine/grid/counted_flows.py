"""Power flows of one contingency: each is counted, and read against the limits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.grid.limits import Limits
from evflex.engine.grid.power_flow import PowerFlow, run_power_flow
from evflex.engine.grid.prepared import PreparedGrid
from evflex.engine.supply_tree import FloatArray, IntArray

# Numbers that a block of steps may hold in an array: 32 MiB.
_BLOCK = 4_194_304


class Slopes(NamedTuple):
    """What 1 kW or kvar drawn more at each of J places changes; NaN where a step has no solution.

    Attributes:
        excess: Change of the excess in each column wanted, (J, c).
        own_voltage: Change of the highest voltage of the place's own bus in pu, (J,).
    """

    excess: FloatArray
    own_voltage: FloatArray


class CountedFlows:
    """Power flows in one switching state."""

    def __init__(self, grid: PreparedGrid, limits: Limits) -> None:
        """Count from zero."""
        self.grid = grid
        self.limits = limits
        self.solved = 0

    def run(self, p_kw: FloatArray, q_kvar: FloatArray) -> PowerFlow:
        """Solve each step of (T, n) or (T, n, 3)."""
        self.solved += len(p_kw)
        return run_power_flow(self.grid, p_kw, q_kvar)

    def excess(self, p_kw: FloatArray, q_kvar: FloatArray) -> FloatArray:
        """By how much each limit is passed in each step, (T, C); see :meth:`Limits.excess`."""
        return self.limits.excess(self.run(p_kw, q_kvar))

    @property
    def block_steps(self) -> int:
        """Steps that are solved at once, so that memory stays bounded."""
        columns = self.limits.limit.shape[0] + 2 * self.grid.network.load_p_kw.size
        return max(32, _BLOCK // columns)

    def slopes(
        self, p_kw: FloatArray, q_kvar: FloatArray, at: tuple[IntArray, ...], columns: IntArray, *, reactive: bool
    ) -> Slopes:
        """How excesses change with the power drawn at each of J places, by power flows with a little more there.

        Args:
            p_kw: Active power of one step, (n,) or (n, 3).
            q_kvar: Reactive power of the step.
            at: Buses (J,), and phases (J,) where a phase is loaded alone; without them it is shared by all phases.
            columns: Columns of limits that are wanted, (c,).
            reactive: Whether reactive power is changed, instead of active.
        """
        change = perturbation_kw(p_kw, q_kvar)
        share = change if len(at) == p_kw.ndim else change / p_kw.shape[-1]
        own_columns = self.limits.high_voltage_column(at[0])
        values, own = np.empty((len(at[0]), len(columns))), np.empty(len(at[0]))
        for first in range(0, len(own), self.block_steps):
            part = slice(first, min(first + self.block_steps, len(own)))
            rows = np.arange(part.stop - first)
            # the last row is the step itself
            p, q = np.repeat(p_kw[None], len(rows) + 1, axis=0), np.repeat(q_kvar[None], len(rows) + 1, axis=0)
            (q if reactive else p)[(rows, *(index[part] for index in at))] += share
            excess = self.excess(p, q)
            values[part] = (excess[:-1, columns] - excess[-1, columns]) / change
            own[part] = (excess[rows, own_columns[part]] - excess[-1, own_columns[part]]) / change
        return Slopes(values, own)


def perturbation_kw(p_kw: FloatArray, q_kvar: FloatArray) -> float:
    """A change that is small to a network of these injections, and large to what a power flow leaves unsolved."""
    return 1e-3 * max(10.0, float(np.abs(p_kw).sum() + np.abs(q_kvar).sum()))
