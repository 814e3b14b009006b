"""How much of a load that no voltage can serve could be served, and where the voltage gives way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.lanes import LANES
from evflex.engine.grid.power_flow import FlowOptions, PowerFlow, run_power_flow
from evflex.engine.grid.prepared import PreparedGrid
from evflex.engine.supply_tree import FloatArray

# Shares that are tried at once, as many as kernels solve together.
_TRIED = LANES
# Near the end of solutions Newton's steps halve the error at best, and rounds of injection hardly make it less.
_OPTIONS = FlowOptions(max_iterations=60, max_rounds=2_000)
# Each round narrows the gap to a ninth: to less than 1e-5 after the last.
_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class NearestSolvable:
    """The largest share of a load that is solved.

    Attributes:
        ratio: Share of all injections, 0 to 1; a share larger by 1e-5 is not solved.
        weakest_bus: Index of the bus of the lowest voltage at that share.
    """

    ratio: float
    weakest_bus: int


def nearest_solvable(grid: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray) -> NearestSolvable | None:
    """The largest share of injections up to which every smaller one that was tried is solved.

    Injections are scaled together; generators that hold a voltage, and shunts, stay as they are. The share is found by
    trying several at once, between the last that is solved and the first that is not.

    Args:
        grid: The network in its switching state.
        p_kw: Active power drawn at each bus in a step that is not solved, (n,), or by phase, (n, 3).
        q_kvar: Reactive power drawn, of the same shape.

    Returns:
        Share and bus; None where nothing is solved even without injections.

    Raises:
        InvalidProblemError: Injections of a wrong shape, or not finite.
    """
    flow = _scaled(grid, p_kw, q_kvar, np.zeros(1))
    if not flow.converged[0]:
        return None
    voltage_pu = flow.voltage_pu[0]
    solved, unsolved = 0.0, 1.0
    for _ in range(_ROUNDS):
        tried = np.linspace(solved, unsolved, _TRIED + 2)[1:-1]
        flow = _scaled(grid, p_kw, q_kvar, tried)
        count = _TRIED if flow.converged.all() else int(np.argmin(flow.converged))
        if count < _TRIED:
            unsolved = float(tried[count])
        if count:
            solved, voltage_pu = float(tried[count - 1]), flow.voltage_pu[count - 1]
    lowest = voltage_pu if voltage_pu.ndim == 1 else voltage_pu.min(axis=1)
    return NearestSolvable(solved, int(np.nanargmin(lowest)))


def _scaled(grid: PreparedGrid, p_kw: FloatArray, q_kvar: FloatArray, ratio: FloatArray) -> PowerFlow:
    return run_power_flow(grid, np.multiply.outer(ratio, p_kw), np.multiply.outer(ratio, q_kvar), _OPTIONS)
