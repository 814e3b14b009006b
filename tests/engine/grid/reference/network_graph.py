"""What both reference flows need of a network: buses fused by closed switches, islands, and ratings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evflex.engine.grid.network import BranchKind, Network

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


def fused_buses(network: Network) -> IntArray:
    """A node for each bus, (n,): buses joined by closed switches share one; nodes count from 0."""
    branches = network.branches
    joined = (branches.kinds == BranchKind.SWITCH) & branches.from_closed & branches.to_closed
    return _components(network.bus_count, branches.from_bus[joined], branches.to_bus[joined])


def live_nodes(network: Network, node: IntArray) -> NDArray[np.bool_]:
    """Whether a node is joined to a source by branches closed at both ends."""
    branches = network.branches
    closed = (branches.kinds != BranchKind.SWITCH) & branches.from_closed & branches.to_closed
    island = _components(int(node.max()) + 1, node[branches.from_bus[closed]], node[branches.to_bus[closed]])
    return np.asarray(np.isin(island, island[node[network.sources.bus]]))


def loading_ratio(network: Network, from_pu: FloatArray, to_pu: FloatArray, power_kva: FloatArray) -> FloatArray:
    """Largest of what the ratings of each branch give, (m,), NaN without a rating.

    Takes currents of both ends in pu, and the larger of both ends' powers in kVA.
    """
    branches, base_a = network.branches, network.base_current_a
    parts = np.stack([
        from_pu * base_a[branches.from_bus] / branches.rated_from_a,
        to_pu * base_a[branches.to_bus] / branches.rated_to_a,
        power_kva / branches.rated_kva,
    ])  # fmt: skip
    return np.asarray(np.fmax.reduce(parts, axis=0))


def _components(count: int, left: IntArray, right: IntArray) -> IntArray:
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        ra, rb = root(a), root(b)
        parent[max(ra, rb)] = min(ra, rb)
    return np.unique([root(i) for i in range(count)], return_inverse=True)[1].astype(np.int64)
