"""Power flows of one contingency: each is counted, and read against the limits."""

from __future__ import annotations

import numpy as np

from evflex.engine.grid.limits import Limits
from evflex.engine.grid.power_flow import PowerFlow, run_power_flow
from evflex.engine.grid.prepared import PreparedGrid
from evflex.engine.supply_tree import FloatArray, IntArray

# Numbers that a block of steps may hold in an array: 32 MiB.
_BLOCK = 4_194_304


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
    ) -> FloatArray:
        """How excesses change with the power drawn at each of J places, by power flows with a little more there.

        Args:
            p_kw: Active power of one step, (n,) or (n, 3).
            q_kvar: Reactive power of the step.
            at: Buses (J,), and phases (J,) where a phase is loaded alone; without them it is shared by all phases.
            columns: Columns of limits that are wanted, (c,).
            reactive: Whether reactive power is changed, instead of active.

        Returns:
            Change of excess per kW or kvar drawn more, (J, c); NaN where the step itself has no solution.
        """
        change = perturbation_kw(p_kw, q_kvar)
        share = change if len(at) == p_kw.ndim else change / p_kw.shape[-1]
        out = np.empty((len(at[0]), len(columns)))
        for first in range(0, len(out), self.block_steps):
            part = slice(first, min(first + self.block_steps, len(out)))
            count = part.stop - first
            # the last row is the step itself
            p, q = np.repeat(p_kw[None], count + 1, axis=0), np.repeat(q_kvar[None], count + 1, axis=0)
            (q if reactive else p)[(np.arange(count), *(index[part] for index in at))] += share
            excess = self.excess(p, q)[:, columns]
            out[part] = (excess[:-1] - excess[-1]) / change
        return out


def perturbation_kw(p_kw: FloatArray, q_kvar: FloatArray) -> float:
    """A change that is small to a network of these injections, and large to what a power flow leaves unsolved."""
    return 1e-3 * max(10.0, float(np.abs(p_kw).sum() + np.abs(q_kvar).sum()))
