"""How far injections without a solution are from one that has it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.lanes import LANES
from evflex.engine.grid.limits import lowest
from evflex.engine.grid.power_flow import FlowOptions, run_power_flow
from evflex.engine.grid.prepared import PreparedGrid
from evflex.engine.supply_tree import FloatArray

# Near the end of solutions Newton's steps halve the error at best.
_OPTIONS = FlowOptions(max_iterations=60)
# All lanes at once, so each round narrows the range by as many: 1 to 1e-6 in four.
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Collapse:
    """The largest multiple of some injections that has a solution.

    Attributes:
        solvable_ratio: The multiple, within 1e-6; 1 where the injections have a solution themselves.
        weakest_bus: Bus of the lowest voltage there, in pu; −1 where not even the network without load was solved.
        voltage_pu: That voltage; NaN where there is none.
        flows_solved: Power flows computed.
    """

    solvable_ratio: float
    weakest_bus: int
    voltage_pu: float
    flows_solved: int


def nearest_solvable(grid: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray) -> Collapse:
    """Scale all injections of a step together, from no load towards the step, as far as there is a solution.

    Generators that hold a voltage keep their power: they are no injections.

    Args:
        grid: The network in its switching state.
        p_kw: Active power drawn at each bus in the step, (n,) or (n, 3).
        q_kvar: Reactive power drawn.

    Raises:
        InvalidProblemError: Injections of a wrong shape, or not finite.
    """
    low, high, weakest, voltage, solved = 0.0, 1.0, -1, np.nan, 0
    for _ in range(_ROUNDS):
        multiples = np.linspace(low, high, LANES)
        scale = multiples.reshape(-1, *(1 for _ in p_kw.shape))
        flow = run_power_flow(grid, scale * p_kw, scale * q_kvar, _OPTIONS)
        solved += LANES
        failed = np.flatnonzero(~flow.converged)
        last = (int(failed[0]) if len(failed) else LANES) - 1
        if last < 0:
            break
        low = float(multiples[last])
        at = lowest(flow.voltage_pu)[last]
        if not np.isnan(at).all():
            weakest = int(np.nanargmin(at))
            voltage = float(at[weakest])
        if last == LANES - 1:
            break
        high = float(multiples[last + 1])
    return Collapse(low, weakest, voltage, solved)
