"""What a switching state makes of a structure: admittances, what is energised, and where a power flow starts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from evflex.engine.grid.admittance import ComplexArray, two_ports
from evflex.engine.grid.network import Network
from evflex.engine.grid.structure import Structure
from evflex.engine.kernels import kernel
from evflex.engine.supply_tree import BoolArray, IntArray


class NodeKind(IntEnum):
    """What is given at a node."""

    # active and reactive power
    LOAD = 0
    # active power and voltage
    GENERATOR = 1
    # voltage and angle
    SOURCE = 2
    # nothing: no source reaches it
    DEAD = 3


# The same for kernels.
LOAD, GENERATOR, SOURCE, DEAD = (int(kind) for kind in NodeKind)


@dataclass(frozen=True, slots=True)
class SwitchingState:
    """Admittances of a network in a switching state, in the order of its structure's nodes and edges.

    Attributes:
        ports: Two-ports of the branches, (m, 4).
        y_node: Diagonal of the nodal admittance matrix, (N,).
        y_first: Its entries (first, second) of each edge, (E,).
        y_second: Its entries (second, first), (E,).
        kind: :class:`NodeKind`, (N,).
        start: Voltages without load: those of the sources, carried along closed branches, (N,).
    """

    ports: ComplexArray
    y_node: ComplexArray
    y_first: ComplexArray
    y_second: ComplexArray
    kind: IntArray
    start: ComplexArray

    @property
    def energised(self) -> BoolArray:
        """Whether a source reaches each node, (N,)."""
        reached: BoolArray = self.kind != NodeKind.DEAD
        return reached


def switching_state(
    network: Network, structure: Structure, from_closed: BoolArray, to_closed: BoolArray
) -> SwitchingState:
    """Admittances of a network whose branches are in a given state.

    Args:
        network: The network.
        structure: Its structure, made with the same state of its switches.
        from_closed: Whether the from end of each branch is connected, (m,).
        to_closed: Whether the to end is, (m,).

    Returns:
        The state.
    """
    branches, n = network.branches, structure.node_count
    ports = two_ports(branches, from_closed, to_closed)
    kind = np.full(n, NodeKind.DEAD, dtype=np.int64)
    start = np.zeros(n, dtype=np.complex128)
    roots = structure.node_of_bus[network.sources.bus]
    kind[roots] = NodeKind.SOURCE
    start[roots] = network.sources.voltage_pu * np.exp(1j * np.deg2rad(network.sources.angle_deg))
    through = from_closed & to_closed & (structure.edge_of_branch >= 0)
    a, b = structure.node_of_bus[branches.from_bus], structure.node_of_bus[branches.to_bus]
    _energise(a[through], b[through], ports[through], kind, start)
    held = structure.node_of_bus[network.generators.bus]
    holds = kind[held] == NodeKind.LOAD
    kind[held[holds]] = NodeKind.GENERATOR
    start[held[holds]] *= network.generators.voltage_pu[holds] / np.abs(start[held[holds]])
    return SwitchingState(ports, *nodal_admittances(network, structure, ports), kind, start)


def nodal_admittances(
    network: Network, structure: Structure, ports: ComplexArray
) -> tuple[ComplexArray, ComplexArray, ComplexArray]:
    """The nodal admittance matrix of branches and shunts, of one sequence.

    Args:
        network: The network.
        structure: Its structure.
        ports: Two-ports of the branches, (m, 4).

    Returns:
        Its diagonal, (N,), and its entries (first, second) and (second, first) of each edge, (E,) each.
    """
    branches, edges = network.branches, structure.edge_first.shape[0]
    a, b = structure.node_of_bus[branches.from_bus], structure.node_of_bus[branches.to_bus]
    y_node = np.zeros(structure.node_count, dtype=np.complex128)
    np.add.at(y_node, structure.node_of_bus, network.buses.shunt_g_pu + 1j * network.buses.shunt_b_pu)
    np.add.at(y_node, a, ports[:, 0])
    np.add.at(y_node, b, ports[:, 3])
    within = (structure.edge_of_branch < 0) & (a == b)
    np.add.at(y_node, a[within], (ports[:, 1] + ports[:, 2])[within])
    y_first, y_second = np.zeros(edges, dtype=np.complex128), np.zeros(edges, dtype=np.complex128)
    on = np.flatnonzero(structure.edge_of_branch >= 0)
    edge, forward = structure.edge_of_branch[on], structure.forward[on]
    np.add.at(y_first, edge, np.where(forward, ports[on, 1], ports[on, 2]))
    np.add.at(y_second, edge, np.where(forward, ports[on, 2], ports[on, 1]))
    return y_node, y_first, y_second


@kernel
def _energise(a: IntArray, b: IntArray, ports: ComplexArray, kind: IntArray, start: ComplexArray) -> None:
    """Carry voltages from sources along branches (a, b), breadth first: V_b = −Y_tf V_a / Y_tt and the reverse."""
    n, m = kind.shape[0], a.shape[0]
    begin = np.zeros(n + 1, dtype=np.int64)
    for i in range(m):
        begin[a[i] + 1] += 1
        begin[b[i] + 1] += 1
    for i in range(n):
        begin[i + 1] += begin[i]
    links = np.empty(2 * m, dtype=np.int64)
    fill = begin[:-1].copy()
    for i in range(m):
        links[fill[a[i]]] = i
        fill[a[i]] += 1
        links[fill[b[i]]] = i
        fill[b[i]] += 1
    queue = np.empty(n, dtype=np.int64)
    head, tail = 0, 0
    for i in range(n):
        if kind[i] == SOURCE:
            queue[tail] = i
            tail += 1
    while head < tail:
        i = queue[head]
        head += 1
        for at in range(begin[i], begin[i + 1]):
            branch = links[at]
            forward = a[branch] == i
            j = b[branch] if forward else a[branch]
            if kind[j] == DEAD:
                kind[j] = LOAD
                if forward:
                    start[j] = -ports[branch, 2] * start[i] / ports[branch, 3]
                else:
                    start[j] = -ports[branch, 1] * start[i] / ports[branch, 0]
                queue[tail] = j
                tail += 1
