"""Powers and currents at both ends of branches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.prepared import PreparedGrid
from evflex.engine.supply_tree import FloatArray


@dataclass(frozen=True, slots=True)
class BranchFlows:
    """What flows into branches at both ends, (T, m) each; NaN where no source reaches, 0 at an open end.

    Attributes:
        from_p_kw: Active power into the from end.
        from_q_kvar: Reactive power into the from end.
        from_current_a: Current at the from end.
        to_p_kw: Active power into the to end.
        to_q_kvar: Reactive power into the to end.
        to_current_a: Current at the to end.
    """

    from_p_kw: FloatArray
    from_q_kvar: FloatArray
    from_current_a: FloatArray
    to_p_kw: FloatArray
    to_q_kvar: FloatArray
    to_current_a: FloatArray


def branch_flows(grid: PreparedGrid, voltage_pu: ComplexArray) -> BranchFlows:
    """Flows of branches that follow from voltages.

    Args:
        grid: The network in its switching state.
        voltage_pu: Voltages of buses, (T, n).
    """
    network = grid.network
    a, b = network.branches.from_bus, network.branches.to_bus
    y_ff, y_ft, y_tf, y_tt = grid.state.ports.T
    v_from, v_to = voltage_pu[:, a], voltage_pu[:, b]
    # an end that is open has no current, whatever the voltage beyond it
    at_from = _times(y_ff, v_from) + _times(y_ft, v_to)
    at_to = _times(y_tf, v_from) + _times(y_tt, v_to)
    s_from, s_to = v_from * at_from.conj() * network.base_kva, v_to * at_to.conj() * network.base_kva
    base_a = network.base_current_a
    return BranchFlows(
        s_from.real, s_from.imag, np.abs(at_from) * base_a[a], s_to.real, s_to.imag, np.abs(at_to) * base_a[b]
    )


def _times(admittance: ComplexArray, voltage: ComplexArray) -> ComplexArray:
    product: ComplexArray = np.where(admittance == 0.0, 0.0, admittance * voltage)
    return product
