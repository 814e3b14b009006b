"""Branches as two-ports: what current flows in at each end for the voltages at both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.grid.network import Branches, BranchKind
from evflex.engine.supply_tree import BoolArray

ComplexArray = NDArray[np.complex128]


def two_ports(branches: Branches, from_closed: BoolArray, to_closed: BoolArray) -> ComplexArray:
    """Positive-sequence admittances of each branch in a switching state.

    A branch open at one end is an admittance at the other: with I_t = 0, V_t = −Y_tf V_f / Y_tt.

    Args:
        branches: The branches.
        from_closed: Whether the from end is connected, (m,).
        to_closed: Whether the to end is connected, (m,).

    Returns:
        Columns Y_ff, Y_ft, Y_tf, Y_tt in pu, (m, 4); zero for switches and for what is open at both ends.
    """
    switch = branches.kinds == BranchKind.SWITCH
    series = 1.0 / np.where(switch, 1.0, branches.r_pu + 1j * branches.x_pu)
    turns = branches.ratio * np.exp(1j * np.deg2rad(branches.shift_deg))
    ports = np.empty((branches.kinds.shape[0], 4), dtype=np.complex128)
    ports[:, 0] = (series + branches.g_from_pu + 1j * branches.b_from_pu) / branches.ratio**2
    ports[:, 1] = -series / turns.conj()
    ports[:, 2] = -series / turns
    ports[:, 3] = series + branches.g_to_pu + 1j * branches.b_to_pu
    return open_ends(ports, from_closed & ~switch, to_closed & ~switch)


def open_ends(ports: ComplexArray, from_closed: BoolArray, to_closed: BoolArray) -> ComplexArray:
    """Two-ports, (m, 4), with some ends open: the rest is seen from the end that is closed."""
    y_ff, y_ft, y_tf, y_tt = ports.T
    both = from_closed & to_closed
    seen = np.zeros_like(ports)
    seen[both] = ports[both]
    alone = from_closed & ~to_closed
    seen[alone, 0] = y_ff[alone] - _over((y_ft * y_tf)[alone], y_tt[alone])
    alone = to_closed & ~from_closed
    seen[alone, 3] = y_tt[alone] - _over((y_tf * y_ft)[alone], y_ff[alone])
    return seen


def _over(coupling: ComplexArray, own: ComplexArray) -> ComplexArray:
    """The quotient, and nothing where nothing couples."""
    return np.divide(coupling, own, out=np.zeros_like(coupling), where=coupling != 0.0)
