"""Powers and currents at both ends of branches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.prepared import PhasePart, PreparedGrid
from evflex.engine.grid.sequences import phases_of
from evflex.engine.supply_tree import FloatArray


@dataclass(frozen=True, slots=True)
class BranchFlows:
    """What flows into branches at both ends, (T, m) each, or (T, m, 3) by phase; 0 at an end without voltage.

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
        voltage_pu: Voltages of buses, (T, n), or by sequence, (T, n, 3).
    """
    network = grid.network
    a, b = network.branches.from_bus, network.branches.to_bus
    live = np.where(np.isnan(voltage_pu), 0.0, voltage_pu)
    v_from, v_to, base_a = live[:, a], live[:, b], network.base_current_a
    i_from_base, i_to_base, base_kva = base_a[a], base_a[b], network.base_kva
    if isinstance(grid.part, PhasePart):
        y_ff, y_ft, y_tf, y_tt = grid.part.ports.transpose(2, 1, 0)
        at_from, at_to = phases_of(y_ff * v_from + y_ft * v_to), phases_of(y_tf * v_from + y_tt * v_to)
        v_from, v_to, base_kva = phases_of(v_from), phases_of(v_to), base_kva / 3.0
        i_from_base, i_to_base = i_from_base[:, None], i_to_base[:, None]
    else:
        y_ff, y_ft, y_tf, y_tt = grid.state.ports.T
        at_from, at_to = y_ff * v_from + y_ft * v_to, y_tf * v_from + y_tt * v_to
    s_from, s_to = v_from * at_from.conj() * base_kva, v_to * at_to.conj() * base_kva
    return BranchFlows(
        s_from.real, s_from.imag, np.abs(at_from) * i_from_base, s_to.real, s_to.imag, np.abs(at_to) * i_to_base
    )
