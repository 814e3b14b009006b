"""A network made ready for power flows: what depends on its switches but on no load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.flow_kernel import BranchTable
from evflex.engine.grid.network import Network
from evflex.engine.grid.network_rules import validate_network
from evflex.engine.grid.newton import Admittances, Pattern, admittances_of, pattern_of
from evflex.engine.grid.phase_factor import PhaseFactor, phase_factor
from evflex.engine.grid.phase_kernel import PhaseBranches
from evflex.engine.grid.sequence_admittance import sequence_ports
from evflex.engine.grid.structure import Structure, structure_of
from evflex.engine.grid.switching_state import SwitchingState, switching_state
from evflex.engine.supply_tree import BoolArray, FloatArray

# Of a branch whose two-port is that of a series impedance, up to rounding.
_SAME = 1e-12


@dataclass(frozen=True, slots=True)
class BalancedPart:
    """What a balanced power flow needs besides.

    Attributes:
        admittances: The state for kernels.
        branches: The branches for kernels.
        generated_pu: What generators that hold a voltage draw at each node, (N,).
    """

    admittances: Admittances
    branches: BranchTable
    generated_pu: FloatArray


@dataclass(frozen=True, slots=True)
class PhasePart:
    """What a power flow of three phases needs besides.

    Attributes:
        ports: Two-ports by sequence, (3, m, 4).
        factor: Factor of the nodal admittances.
        branches: The branches for kernels.
        dead: Nodes that no source reaches, (N,).
        floating: Nodes from which zero-sequence current has no path to earth, (N,).
    """

    ports: ComplexArray
    factor: PhaseFactor
    branches: PhaseBranches
    dead: BoolArray
    floating: BoolArray


@dataclass(frozen=True, slots=True)
class PreparedGrid:
    """A network in one switching state, made by :func:`prepare_grid` or :meth:`switched`.

    Attributes:
        network: The network.
        structure: Its nodes and edges, the same for each state of its branches but not of its switches.
        pattern: The structure for kernels.
        state: Admittances of the positive sequence and what is energised.
        part: What the power flow needs besides, of one phase or of three.
    """

    network: Network
    structure: Structure
    pattern: Pattern
    state: SwitchingState
    part: BalancedPart | PhasePart

    @property
    def energised(self) -> BoolArray:
        """Whether a source reaches each bus, (n,)."""
        reached: BoolArray = self.state.energised[self.structure.node_of_bus]
        return reached

    def switched(self, from_closed: BoolArray, to_closed: BoolArray) -> PreparedGrid:
        """The network with other branches closed; :func:`prepare_grid` is for other switches.

        Args:
            from_closed: Whether the from end of each branch is connected, (m,); as before for switches.
            to_closed: Whether the to end is.
        """
        return _in_state(self.network, self.structure, self.pattern, from_closed, to_closed)


def prepare_grid(
    network: Network, from_closed: BoolArray | None = None, to_closed: BoolArray | None = None
) -> PreparedGrid:
    """Make a network ready for power flows.

    Args:
        network: The network.
        from_closed: Whether the from end of each branch is connected, (m,); None for the network's own state.
        to_closed: Whether the to end is.

    Raises:
        InvalidProblemError: The network breaks a rule, or sources of different voltage are joined.
    """
    validate_network(network)
    ends = network.branches.from_closed if from_closed is None else from_closed
    others = network.branches.to_closed if to_closed is None else to_closed
    passive = None
    if network.phase_count == 3:
        passive = (network.load_p_kw == 0.0).all(axis=1) & (network.load_q_kvar == 0.0).all(axis=1)
    structure = structure_of(network, ends, others, passive)
    return _in_state(network, structure, pattern_of(structure), ends, others)


def _in_state(
    network: Network, structure: Structure, pattern: Pattern, from_closed: BoolArray, to_closed: BoolArray
) -> PreparedGrid:
    state = switching_state(network, structure, from_closed, to_closed)
    prepare = _balanced if network.phase_count == 1 else _phases
    part = prepare(network, structure, state, from_closed, to_closed)
    return PreparedGrid(network, structure, pattern, state, part)


def _balanced(
    network: Network, structure: Structure, state: SwitchingState, from_closed: BoolArray, to_closed: BoolArray
) -> BalancedPart:
    branches, node = network.branches, structure.node_of_bus
    ports = np.ascontiguousarray(state.ports).view(np.float64)
    table = BranchTable(node[branches.from_bus], node[branches.to_bus], ports, _loading_weights(network))
    generated = np.zeros(structure.node_count)
    np.add.at(generated, node[network.generators.bus], network.generators.p_kw / network.base_kva)
    return BalancedPart(admittances_of(state), table, generated)


def _phases(
    network: Network, structure: Structure, state: SwitchingState, from_closed: BoolArray, to_closed: BoolArray
) -> PhasePart:
    branches, node = network.branches, structure.node_of_bus
    ports = sequence_ports(branches, from_closed, to_closed)
    dead = ~state.energised
    factor, floating = phase_factor(network, structure, ports, state.start, dead)
    by_branch = np.ascontiguousarray(ports.transpose(1, 0, 2))
    y_ff, y_ft, y_tf, y_tt = np.moveaxis(by_branch, 2, 0)
    passes = np.abs(y_ff + y_tf) + np.abs(y_ft + y_tt) <= _SAME * (np.abs(y_ff) + np.abs(y_tt))
    base_a = network.base_current_a
    one_current = base_a[branches.from_bus] / branches.rated_from_a == base_a[branches.to_bus] / branches.rated_to_a
    table = PhaseBranches(
        node[branches.from_bus], node[branches.to_bus], by_branch.view(np.float64), _loading_weights(network),
        passes.all(axis=1) & one_current,
    )  # fmt: skip
    return PhasePart(ports, factor, table, dead, floating)


def _loading_weights(network: Network) -> FloatArray:
    """What squared currents and powers in pu are multiplied by for the squared loading, (m, 3)."""
    branches, base_a = network.branches, network.base_current_a
    weights: FloatArray = np.column_stack(
        [
            (base_a[branches.from_bus] / branches.rated_from_a) ** 2,
            (base_a[branches.to_bus] / branches.rated_to_a) ** 2,
            (network.base_kva / branches.rated_kva) ** 2,
        ]
    )
    rated = ~np.isnan(weights).all(axis=1)
    weights[rated] = np.nan_to_num(weights[rated])
    return weights
