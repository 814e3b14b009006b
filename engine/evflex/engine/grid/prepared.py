"""A network made ready for power flows: what depends on its switches but on no load."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evflex.engine.grid.flow_kernel import BranchTable
from evflex.engine.grid.network import Network
from evflex.engine.grid.network_rules import validate_network
from evflex.engine.grid.newton import Admittances, Pattern, admittances_of, pattern_of
from evflex.engine.grid.structure import Structure, structure_of
from evflex.engine.grid.switching_state import SwitchingState, switching_state
from evflex.engine.supply_tree import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class PreparedGrid:
    """A network in one switching state, made by :func:`prepare_grid` or :meth:`switched`.

    Attributes:
        network: The network.
        structure: Its nodes and edges, the same for each state of its branches but not of its switches.
        state: Admittances and what is energised.
        pattern: The structure for kernels.
        admittances: The state for kernels.
        branches: The branches for kernels.
        generated_pu: What generators that hold a voltage draw at each node, (N,).
    """

    network: Network
    structure: Structure
    state: SwitchingState
    pattern: Pattern
    admittances: Admittances
    branches: BranchTable
    generated_pu: FloatArray

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
    structure = structure_of(network, ends, others)
    return _in_state(network, structure, pattern_of(structure), ends, others)


def _in_state(
    network: Network, structure: Structure, pattern: Pattern, from_closed: BoolArray, to_closed: BoolArray
) -> PreparedGrid:
    state = switching_state(network, structure, from_closed, to_closed)
    branches = network.branches
    ports = np.ascontiguousarray(state.ports).view(np.float64)
    node = structure.node_of_bus
    table = BranchTable(node[branches.from_bus], node[branches.to_bus], ports, _loading_weights(network))
    generated = np.zeros(structure.node_count)
    np.add.at(generated, node[network.generators.bus], network.generators.p_kw / network.base_kva)
    return PreparedGrid(network, structure, state, pattern, admittances_of(state), table, generated)


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
