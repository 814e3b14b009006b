"""An unbalanced power flow written as plainly as possible: dense complex Ybus of 3n phases, fixed point of currents.

Each branch is three sequence networks (zero, positive, negative), turned into phases by Fortescue's matrix. One pu of a
phase voltage is nominal_kv/√3, one pu of a phase power base_kva/3. Loads stand between phase and earth.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from evflex.engine.grid.network import BranchKind, Network, ZeroSequence
from tests.engine.grid.reference.balanced_reference import ReferenceFlow, branch_admittances, open_ends
from tests.engine.grid.reference.network_graph import (
    ComplexArray,
    FloatArray,
    IntArray,
    fused_buses,
    live_nodes,
    loading_ratio,
)

_A = np.exp(2j * np.pi / 3)
# phases = TO_PHASES @ (zero, positive, negative)
TO_PHASES = np.array([[1, 1, 1], [1, _A**2, _A], [1, _A, _A**2]])
_TO_SEQUENCES = np.linalg.inv(TO_PHASES)
# condition beyond which a matrix has no inverse in doubles
_SINGULAR = 1e14


def reference_flow_3ph(
    network: Network,
    p_kw: FloatArray | None = None,
    q_kvar: FloatArray | None = None,
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 2000,
) -> ReferenceFlow:
    """Solve a three-phase network for the loads given, (n, 3); without them for those that it brings.

    Where no path leads zero-sequence current to earth, the zero-sequence voltage is the smallest that solves the
    equations.

    Raises:
        ArithmeticError: When the fixed point is not reached.
    """
    assert network.phase_count == 3
    p_kw = network.load_p_kw if p_kw is None else p_kw
    q_kvar = network.load_q_kvar if q_kvar is None else q_kvar
    node = fused_buses(network)
    live = live_nodes(network, node)
    blocks = phase_admittances(network)
    admittance = _phase_admittance_matrix(network, node, live.shape[0], blocks)
    demand = np.zeros((live.shape[0], 3), dtype=np.complex128)
    np.add.at(demand, node, (p_kw + 1j * q_kvar) * (3.0 / network.base_kva))

    sources = network.sources
    phasors = sources.voltage_pu * np.exp(1j * np.deg2rad(sources.angle_deg))
    voltage = np.full((live.shape[0], 3), np.nan + 0j)
    voltage[node[sources.bus]] = phasors[:, None] * TO_PHASES[:, 1]
    slack = np.zeros(live.shape[0], dtype=bool)
    slack[node[sources.bus]] = True
    free, fixed = np.flatnonzero(live & ~slack), np.flatnonzero(slack)
    iterations = 0
    if free.size:
        free_rows, fixed_rows = _phase_rows(free), _phase_rows(fixed)
        solve = _solver(admittance[np.ix_(free_rows, free_rows)])
        no_load = -solve(admittance[np.ix_(free_rows, fixed_rows)] @ voltage[fixed].ravel())
        power = demand[free].ravel()
        solution = no_load
        change = np.inf
        while change >= tolerance:
            if iterations == max_iterations:
                raise ArithmeticError(f"no fixed point: the last step changed {change:.3g} pu")
            updated = no_load - solve(np.conj(power / solution))
            change = np.abs(updated - solution).max()
            solution = updated
            iterations += 1
        voltage[free] = solution.reshape(-1, 3)
    return _answer(network, voltage[node], blocks, iterations)


def phase_admittances(network: Network) -> ComplexArray:
    """Y_ff, Y_ft, Y_tf and Y_tt of each branch by phases in pu, (4, m, 3, 3); an open end is eliminated."""
    positive = branch_admittances(network)
    # −y·exp(−j·shift)/ratio, Y_ft against the other turning field, is what Y_tf is along it, and the other way round
    negative = positive[[0, 2, 1, 3]]
    by_sequence = np.stack([_zero_admittances(network), positive, negative], axis=-1)
    return np.einsum("ps,kms,sq->kmpq", TO_PHASES, by_sequence, _TO_SEQUENCES)


def _zero_admittances(network: Network) -> ComplexArray:
    branches = network.branches
    blocks = np.zeros((4, network.branch_count), dtype=np.complex128)
    for i in range(network.branch_count):
        if branches.kinds[i] == BranchKind.SWITCH or branches.zero_sequence[i] == ZeroSequence.BLOCKED:
            continue
        series = 1.0 / complex(branches.r0_pu[i], branches.x0_pu[i])
        ratio = branches.ratio[i]
        from_side = (series + complex(branches.g0_from_pu[i], branches.b0_from_pu[i])) / ratio**2
        to_side = series + complex(branches.g0_to_pu[i], branches.b0_to_pu[i])
        if branches.zero_sequence[i] == ZeroSequence.THROUGH:
            blocks[:, i] = from_side, -series / ratio, -series / ratio, to_side
        elif branches.zero_sequence[i] == ZeroSequence.TO_EARTH:
            blocks[3, i] = to_side
        else:
            blocks[0, i] = from_side
    return open_ends(network, blocks)


def _phase_admittance_matrix(network: Network, node: IntArray, node_count: int, blocks: ComplexArray) -> ComplexArray:
    from_node, to_node = node[network.branches.from_bus], node[network.branches.to_bus]
    admittance = np.zeros((node_count, node_count, 3, 3), dtype=np.complex128)
    shunt = (network.buses.shunt_g_pu + 1j * network.buses.shunt_b_pu)[:, None, None] * np.eye(3)
    for rows, columns, values in (
        (from_node, from_node, blocks[0]),
        (from_node, to_node, blocks[1]),
        (to_node, from_node, blocks[2]),
        (to_node, to_node, blocks[3]),
        (node, node, shunt),
    ):
        np.add.at(admittance, (rows, columns), values)
    return admittance.transpose(0, 2, 1, 3).reshape(3 * node_count, 3 * node_count)


def _phase_rows(nodes: IntArray) -> IntArray:
    return (3 * nodes[:, None] + np.arange(3)).ravel()


def _solver(matrix: ComplexArray) -> Callable[[ComplexArray], ComplexArray]:
    """What solves the equations of a matrix; where zero sequence floats, by the smallest solution."""
    weights = np.abs(np.diag(matrix))
    scaled = matrix / weights
    # the condition of a large matrix takes long; large networks here are earthed
    if matrix.shape[0] > 600 or np.linalg.cond(scaled) < _SINGULAR:
        return splu(csc_matrix(matrix)).solve
    inverse = np.linalg.pinv(matrix, rcond=1e-12)
    return lambda right: inverse @ right


def _answer(network: Network, voltage: ComplexArray, blocks: ComplexArray, iterations: int) -> ReferenceFlow:
    branches = network.branches
    v_from = np.where(branches.from_closed[:, None], voltage[branches.from_bus], 0.0)
    v_to = np.where(branches.to_closed[:, None], voltage[branches.to_bus], 0.0)
    hidden = np.where(branches.kinds == BranchKind.SWITCH, np.nan, 1.0)[:, None]
    current_from = (np.einsum("mpq,mq->mp", blocks[0], v_from) + np.einsum("mpq,mq->mp", blocks[1], v_to)) * hidden
    current_to = (np.einsum("mpq,mq->mp", blocks[2], v_from) + np.einsum("mpq,mq->mp", blocks[3], v_to)) * hidden
    power_from = v_from * np.conj(current_from) * (network.base_kva / 3.0)
    power_to = v_to * np.conj(current_to) * (network.base_kva / 3.0)
    loading = loading_ratio(
        network, np.abs(current_from).max(axis=1), np.abs(current_to).max(axis=1),
        3.0 * np.maximum(np.abs(power_from), np.abs(power_to)).max(axis=1),
    )  # fmt: skip
    losses = float(np.nansum((power_from + power_to).real))
    return ReferenceFlow(voltage, current_from, current_to, power_from, power_to, loading, losses, iterations)
