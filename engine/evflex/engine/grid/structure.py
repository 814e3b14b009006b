"""What does not change with switching: nodes, edges between them, and the order in which nodes are eliminated.

Buses joined by closed switches are one node. Edges stand for all branches between two nodes, open ones as well, so one
structure serves each contingency. Nodes are numbered in the order of elimination, sources last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from evflex.engine.grid.admittance import ComplexArray
from evflex.engine.grid.network import BranchKind, Network
from evflex.engine.supply_tree import BoolArray, FloatArray, IntArray
from evflex.engine.validation import InvalidProblemError, Violation

_SAME_VOLTAGE_PU = 1e-9


@dataclass(frozen=True, slots=True)
class Structure:
    """Nodes, edges and the factor of a matrix with a block for each of them.

    Attributes:
        node_of_bus: Node of each bus, (n,).
        node_count: Number of nodes, N.
        unknown_count: Number of nodes that are no source, U; they come first.
        edge_of_branch: Edge of each branch, (m,); −1 where both ends are one node, as in a closed switch.
        edge_first: Node of each edge that is eliminated first, (E,).
        edge_second: The other node, (E,).
        edge_entry: Entry of the factor that belongs to an edge, (E,); −1 where one end is a source.
        forward: Whether a branch's from end is its edge's first node, (m,).
        row_begin: First entry of each unknown node, and the end of the last, (U + 1,).
        row_node: Later node of each entry, ascending within a row, (Z,).
        pair_begin: First pair of each unknown node, (U,).
        pair_target: Block that a pair of a row's entries (a, b) changes, row by row: ``U + Z + e`` where a lies below b
            in the lower factor, ``U + e`` in the upper, or the node itself.
    """

    node_of_bus: IntArray
    node_count: int
    unknown_count: int
    edge_of_branch: IntArray
    edge_first: IntArray
    edge_second: IntArray
    edge_entry: IntArray
    forward: BoolArray
    row_begin: IntArray
    row_node: IntArray
    pair_begin: IntArray
    pair_target: IntArray


def structure_of(
    network: Network, from_closed: BoolArray, to_closed: BoolArray, passive: BoolArray | None = None
) -> Structure:
    """The structure of a network whose switches are in a given state.

    Args:
        network: A network that keeps its rules.
        from_closed: Whether the from end of each branch is connected, (m,); matters here for switches only.
        to_closed: Whether the to end is.
        passive: Buses without a load, (n,); those within a line or at its end are eliminated before all others.

    Returns:
        The structure.

    Raises:
        InvalidProblemError: Two sources or generators of different voltage, joined by switches to one node.
    """
    branches = network.branches
    joins = (branches.kinds == BranchKind.SWITCH) & from_closed & to_closed
    group = _groups(network.bus_count, branches.from_bus[joins], branches.to_bus[joins])
    _check_sources(network, group)
    n = int(group.max()) + 1
    is_source = np.zeros(n, dtype=bool)
    is_source[group[network.sources.bus]] = True
    a, b = group[branches.from_bus], group[branches.to_bus]
    linked = (branches.kinds != BranchKind.SWITCH) & (a != b)
    is_early = np.zeros(n, dtype=bool)
    if passive is not None:
        is_early[group] = True
        is_early[group[~passive]] = False
    order, rows = _eliminate(n, is_source, is_early & ~is_source, a[linked], b[linked])
    position = np.empty(n, dtype=np.int64)
    position[order] = np.arange(n)
    unknown = n - int(is_source.sum())
    a, b = position[a], position[b]
    first, second = np.minimum(a, b), np.maximum(a, b)
    keys, edge = np.unique(first[linked] * n + second[linked], return_inverse=True)
    edge_of_branch = np.full(network.branch_count, -1, dtype=np.int64)
    edge_of_branch[linked] = edge
    row_begin, row_node, pair_begin, pair_target, entry_of = _factor(rows, position, unknown)
    edge_first, edge_second = keys // n, keys % n
    entries = [entry_of.get((i, j), -1) for i, j in zip(edge_first.tolist(), edge_second.tolist(), strict=True)]
    return Structure(
        position[group], n, unknown, edge_of_branch, edge_first, edge_second, np.array(entries, dtype=np.int64),
        a < b, row_begin, row_node, pair_begin, pair_target,
    )  # fmt: skip


def _groups(bus_count: int, ends: IntArray, others: IntArray) -> IntArray:
    links = coo_array((np.ones(ends.shape[0]), (ends, others)), shape=(bus_count, bus_count))
    group: IntArray = connected_components(links, directed=False)[1].astype(np.int64)
    return group


def _check_sources(network: Network, group: IntArray) -> None:
    sources, generators = network.sources, network.generators
    _check_alike("sources", group[sources.bus], sources.voltage_pu * np.exp(1j * np.deg2rad(sources.angle_deg)))
    _check_alike("generators", group[generators.bus], generators.voltage_pu)


def _check_alike(table: str, group: IntArray, voltage_pu: FloatArray | ComplexArray) -> None:
    first: dict[int, int] = {}
    for i, joined in enumerate(group.tolist()):
        other = first.setdefault(joined, i)
        if abs(voltage_pu[i] - voltage_pu[other]) > _SAME_VOLTAGE_PU:
            rule = f"must have the voltage of {table}[{other}], to which closed switches join it"
            raise InvalidProblemError([Violation(f"{table}[{i}].voltage_pu", rule)])


def _eliminate(
    n: int, is_source: BoolArray, is_early: BoolArray, a: IntArray, b: IntArray
) -> tuple[IntArray, list[tuple[int, set[int]]]]:
    """The order of nodes, and of each unknown node the neighbours left when it went."""
    neighbours: list[set[int]] = [set() for _ in range(n)]
    for i, j in zip(a.tolist(), b.tolist(), strict=True):
        if not is_source[i] and not is_source[j]:
            neighbours[i].add(j)
            neighbours[j].add(i)
    gone = is_source.copy()
    # who has two neighbours joins them: no fill
    rows = _by_least_degree(neighbours, gone, is_early, most=2)
    rows += _by_least_degree(neighbours, gone, ~is_source, most=n)
    order = np.array([i for i, _ in rows] + np.flatnonzero(is_source).tolist(), dtype=np.int64)
    return order, rows


def _by_least_degree(
    neighbours: list[set[int]], gone: BoolArray, allowed: BoolArray, most: int
) -> list[tuple[int, set[int]]]:
    """Eliminate allowed nodes of up to ``most`` neighbours, those with the fewest first."""
    by_degree: list[list[int]] = [[] for _ in range(len(neighbours) + 1)]
    for i in reversed(np.flatnonzero(allowed & ~gone).tolist()):
        by_degree[len(neighbours[i])].append(i)
    rows: list[tuple[int, set[int]]] = []
    least = 0
    while least <= min(most, len(neighbours)):
        if not by_degree[least]:
            least += 1
            continue
        i = by_degree[least].pop()
        if gone[i] or len(neighbours[i]) != least:
            continue  # an entry from before its degree changed
        gone[i] = True
        around = neighbours[i]
        rows.append((i, around))
        for j in around:
            left = neighbours[j]
            left.discard(i)
            left |= around
            left.discard(j)
            if allowed[j]:
                by_degree[len(left)].append(j)
                least = min(least, len(left))
    return rows


def _factor(
    rows: list[tuple[int, set[int]]], position: IntArray, unknown: int
) -> tuple[IntArray, IntArray, IntArray, IntArray, dict[tuple[int, int], int]]:
    later = [sorted(int(position[j]) for j in around) for _, around in rows]
    row_begin = np.zeros(unknown + 1, dtype=np.int64)
    row_begin[1:] = np.cumsum([len(row) for row in later])
    entry_of: dict[tuple[int, int], int] = {}
    for k, row in enumerate(later):
        for j in row:
            entry_of[k, j] = len(entry_of)
    total = len(entry_of)
    pair_begin = np.zeros(unknown, dtype=np.int64)
    pair_begin[1:] = np.cumsum([len(row) ** 2 for row in later])[:-1]
    targets = []
    for row in later:
        for i in row:
            for j in row:
                if i == j:
                    targets.append(i)
                elif i < j:
                    targets.append(unknown + entry_of[i, j])
                else:
                    targets.append(unknown + total + entry_of[j, i])
    row_node = np.array([j for row in later for j in row], dtype=np.int64)
    return row_begin, row_node, pair_begin, np.array(targets, dtype=np.int64), entry_of
