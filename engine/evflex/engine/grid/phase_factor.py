"""The nodal admittances of the three sequences, factorised once for all steps of a switching state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.network import Network
from evflex.engine.grid.newton import Pattern, pattern_of
from evflex.engine.grid.structure import Structure
from evflex.engine.grid.switching_state import nodal_admittances
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, FloatArray

# A pivot this much below the admittances around it is none.
_NO_PIVOT = 1e-12


class PhaseFactor(NamedTuple):
    """Y_uu = L D U of the unknown nodes by sequence, and what sources feed in.

    Attributes:
        inverse: D⁻¹, real and imaginary parts by sequence, (U, 3, 2).
        lower: L below the diagonal by entry, (Z, 3, 2).
        upper: D⁻¹ times U right of the diagonal by entry, (Z, 3, 2).
        right: L⁻¹ · (−Y_us V_s), what sources feed in, (N, 3, 2).
        source: Voltages of sources, (N, 3, 2); zero elsewhere.
    """

    inverse: FloatArray
    lower: FloatArray
    upper: FloatArray
    right: FloatArray
    source: FloatArray


def phase_factor(
    network: Network, structure: Structure, ports: ComplexArray, start: ComplexArray, dead: BoolArray
) -> tuple[PhaseFactor, BoolArray]:
    """Factorise a switching state.

    Args:
        network: The network, of three phases.
        structure: Its structure.
        ports: Two-ports by sequence, (3, m, 4).
        start: Voltages of sources in positive sequence, (N,).
        dead: Nodes that no source reaches, (N,).

    Returns:
        The factor, and the nodes from which zero-sequence current has no path to earth, (N,).
    """
    n = structure.node_count
    by_sequence = [nodal_admittances(network, structure, of_sequence) for of_sequence in ports]
    y_node, y_first, y_second = (np.stack(parts, axis=1) for parts in zip(*by_sequence, strict=True))
    unknown = structure.unknown_count
    source = np.zeros((n, 3), dtype=np.complex128)
    source[unknown:, 1] = start[unknown:]
    pattern = pattern_of(structure)
    blocks = np.zeros((unknown + 2 * structure.row_node.shape[0], 3), dtype=np.complex128)
    right = np.zeros((n, 3), dtype=np.complex128)
    floating = np.zeros(n, dtype=bool)
    _factorise(pattern, y_node, y_first, y_second, dead, source, blocks, right, floating)
    entries = structure.row_node.shape[0]
    parts = [
        np.ascontiguousarray(values).view(np.float64).reshape(-1, 3, 2)
        for values in (
            blocks[:unknown], blocks[unknown + entries :], blocks[unknown : unknown + entries], right, source,
        )
    ]  # fmt: skip
    return PhaseFactor(parts[0], parts[1], parts[2], parts[3], parts[4]), floating


@kernel
def _factorise(
    pattern: Pattern, y_node: ComplexArray, y_first: ComplexArray, y_second: ComplexArray, dead: BoolArray,
    source: ComplexArray, blocks: ComplexArray, right: ComplexArray, floating: BoolArray,
) -> None:  # fmt: skip
    unknown, entries = pattern.unknown_count, pattern.row_node.shape[0]
    for i in range(unknown):
        for s in range(3):
            blocks[i, s] = y_node[i, s]
    for e in range(pattern.edge_first.shape[0]):
        i, j, entry = pattern.edge_first[e], pattern.edge_second[e], pattern.edge_entry[e]
        for s in range(3):
            if entry >= 0:
                blocks[unknown + entry, s] = y_first[e, s]
                blocks[unknown + entries + entry, s] = y_second[e, s]
            elif i < unknown:
                right[i, s] -= y_first[e, s] * source[j, s]
    for k in range(unknown):
        for s in range(3):
            pivot = blocks[k, s]
            none = dead[k] or abs(pivot) <= _NO_PIVOT * abs(y_node[k, s]) or pivot == 0.0
            floating[k] |= none and not dead[k]
            blocks[k, s] = 0.0 if none else 1.0 / pivot
        pair = pattern.pair_begin[k]
        begin, end = pattern.row_begin[k], pattern.row_begin[k + 1]
        for below in range(begin, end):
            j = pattern.row_node[below]
            for s in range(3):
                blocks[unknown + entries + below, s] *= blocks[k, s]
                right[j, s] -= blocks[unknown + entries + below, s] * right[k, s]
            for after in range(begin, end):
                target = pattern.pair_target[pair]
                pair += 1
                for s in range(3):
                    blocks[target, s] -= blocks[unknown + entries + below, s] * blocks[unknown + after, s]
        for after in range(begin, end):
            for s in range(3):
                blocks[unknown + after, s] *= blocks[k, s]
