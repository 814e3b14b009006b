"""Branches as two-ports in zero, positive and negative sequence.

Lines are taken as transposed and transformers as symmetric, so the sequences do not meet in any branch: three
networks of one phase each, which only loads tie together (Fortescue, 1918). The negative sequence is the positive one
with phase shifts turned round.
"""

from __future__ import annotations

import numpy as np

from evflex.engine.grid.admittance import ComplexArray, open_ends, two_ports
from evflex.engine.grid.network import Branches, BranchKind, ZeroSequence
from evflex.engine.supply_tree import BoolArray


def sequence_ports(branches: Branches, from_closed: BoolArray, to_closed: BoolArray) -> ComplexArray:
    """Admittances of each branch in each sequence.

    Args:
        branches: The branches of a network of three phases.
        from_closed: Whether the from end is connected, (m,).
        to_closed: Whether the to end is connected, (m,).

    Returns:
        Columns Y_ff, Y_ft, Y_tf, Y_tt in pu by sequence, (3, m, 4).
    """
    positive = two_ports(branches, from_closed, to_closed)
    negative = positive.copy()
    # turning e^jφ into e^−jφ exchanges the two transfer admittances
    negative[:, 1], negative[:, 2] = positive[:, 2], positive[:, 1]
    return np.stack([_zero_ports(branches, from_closed, to_closed), positive, negative])


def _zero_ports(branches: Branches, from_closed: BoolArray, to_closed: BoolArray) -> ComplexArray:
    path = branches.zero_sequence
    used = (branches.kinds != BranchKind.SWITCH) & (path != ZeroSequence.BLOCKED)
    series = np.where(used, 1.0 / np.where(used, branches.r0_pu + 1j * branches.x0_pu, 1.0), 0.0)
    at_from = np.where(used, branches.g0_from_pu + 1j * branches.b0_from_pu, 0.0)
    at_to = np.where(used, branches.g0_to_pu + 1j * branches.b0_to_pu, 0.0)
    through = path == ZeroSequence.THROUGH
    ports = np.zeros((branches.kinds.shape[0], 4), dtype=np.complex128)
    ports[:, 0] = np.where(through | (path == ZeroSequence.FROM_EARTH), (series + at_from) / branches.ratio**2, 0.0)
    ports[:, 1] = np.where(through, -series / branches.ratio, 0.0)
    ports[:, 2] = ports[:, 1]
    ports[:, 3] = np.where(through | (path == ZeroSequence.TO_EARTH), series + at_to, 0.0)
    return open_ends(ports, from_closed & used, to_closed & used)
