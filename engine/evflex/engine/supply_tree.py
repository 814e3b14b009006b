"""The electrical tree: grid connection → transformer → panel → circuit, with its limits in kW and in A per phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import inf

import numpy as np
from numpy.typing import NDArray

from evflex.engine.validation import Rules, all_in_range

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

DEFAULT_VOLTAGE_V = 230.0


class PhaseConnection(IntEnum):
    """Phases of a load; values as in the public contract."""

    L1 = 1
    L2 = 2
    L3 = 3
    L1_L2 = 4
    L2_L3 = 5
    L3_L1 = 6
    L1_L2_L3 = 7


# ACTIVE[c, f] is 1 where connection c loads phase f (0 → L1, 1 → L2, 2 → L3). Row 0, "unspecified", is three-phase.
ACTIVE = np.array(
    [[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=np.float64
)
PHASE_COUNT = ACTIVE.sum(axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class SupplyNodes:
    """The tree as the caller gives it: one entry a node, in any order.

    Attributes:
        node_ids: Unique, not empty.
        parent_node_ids: Empty at the root, of which there is exactly one.
        max_import_kw: Safety limit of import per node: length 0 (none), 1 or step_count.
        max_export_kw: Safety limit of export per node, a positive number: length 0, 1 or step_count.
        agreement_import_kw: Import that the connection agreement allows: length 0, 1 or step_count.
        max_current_a: Limit per phase in A; infinite where there is none. Shape (nodes,).
        nominal_voltage_v: Line to neutral. Shape (nodes,).
        fixed_load_kw: Uncontrolled net load at the node itself: length 0, 1 or step_count.
        fixed_load_phases: :class:`PhaseConnection` values. Shape (nodes,).
    """

    node_ids: tuple[str, ...]
    parent_node_ids: tuple[str, ...]
    max_import_kw: tuple[FloatArray, ...]
    max_export_kw: tuple[FloatArray, ...]
    agreement_import_kw: tuple[FloatArray, ...]
    max_current_a: FloatArray
    nominal_voltage_v: FloatArray
    fixed_load_kw: tuple[FloatArray, ...]
    fixed_load_phases: IntArray

    @classmethod
    def single(
        cls,
        *,
        max_import_kw: FloatArray | float | None = None,
        fixed_load_kw: FloatArray | float | None = None,
    ) -> SupplyNodes:
        """A root alone, with an optional import limit and fixed load (constant or per step) in kW."""

        def row(value: FloatArray | float | None) -> FloatArray:
            return np.empty(0) if value is None else np.atleast_1d(np.asarray(value, dtype=np.float64))

        none = (np.empty(0),)
        return cls(
            ("root",), ("",), (row(max_import_kw),), none, none, np.array([np.inf]), np.array([DEFAULT_VOLTAGE_V]),
            (row(fixed_load_kw),), np.array([PhaseConnection.L1_L2_L3], dtype=np.int64),
        )  # fmt: skip

    def validate(self, rules: Rules, step_count: int | None, path: str = "nodes") -> bool:
        """Report every broken rule; True when :func:`build_tree` can be called.

        Args:
            rules: Collects what is broken.
            step_count: Steps of the grid; None where it is not known, and lengths are then not looked at.
            path: Path of the nodes in the request.
        """
        if self._is_sound(step_count):
            return True
        before = len(rules.violations)
        count = len(self.node_ids)
        if not count:
            rules.check(False, path, "must hold at least the root")
            return False
        for column in self.__slots__:
            length = len(getattr(self, column))
            rules.check(length == count, f"{path}.{column}", f"must have one entry a node ({count}), has {length}")
        if len(rules.violations) > before:
            return False
        self._validate_structure(rules, path)
        lengths = None if step_count is None else (0, 1, step_count)
        for i in range(count):
            rules.array(f"{path}[{i}].max_import_kw", self.max_import_kw[i], lengths, minimum=0.0)
            rules.array(f"{path}[{i}].max_export_kw", self.max_export_kw[i], lengths, minimum=0.0)
            rules.array(f"{path}[{i}].agreement_import_kw", self.agreement_import_kw[i], lengths, minimum=0.0)
            rules.array(f"{path}[{i}].fixed_load_kw", self.fixed_load_kw[i], lengths)
        rules.rows(path, "max_current_a", ~(self.max_current_a >= 0.0), "must be >= 0", self.max_current_a)
        voltage_bad = ~((self.nominal_voltage_v > 0.0) & np.isfinite(self.nominal_voltage_v))
        rules.rows(path, "nominal_voltage_v", voltage_bad, "must be finite and > 0", self.nominal_voltage_v)
        phases_bad = (self.fixed_load_phases < 0) | (self.fixed_load_phases >= len(ACTIVE))
        rules.rows(path, "fixed_load_phases", phases_bad, "must be a known PhaseConnection", self.fixed_load_phases)
        return len(rules.violations) == before

    def _is_sound(self, step_count: int | None) -> bool:
        """Quick look that passes what is sound in the usual form: parents before their children."""
        if step_count is None:
            return False
        count = len(self.node_ids)
        if set(map(len, map(self.__getattribute__, self.__slots__))) != {count}:
            return False
        earlier: set[str] = set()
        for node_id, parent in zip(self.node_ids, self.parent_node_ids, strict=True):
            if not node_id or node_id in earlier or (parent not in earlier if earlier else parent):
                return False
            earlier.add(node_id)
        limits = (*self.max_import_kw, *self.max_export_kw, *self.agreement_import_kw)
        if not {0, 1, step_count}.issuperset(map(len, (*limits, *self.fixed_load_kw))):
            return False
        numbers = zip(
            self.max_current_a.tolist(), self.nominal_voltage_v.tolist(), self.fixed_load_phases.tolist(), strict=True
        )
        for current_a, voltage_v, phases in numbers:
            if not (current_a >= 0.0 and 0.0 < voltage_v < inf and 0 <= phases < len(ACTIVE)):
                return False
        return count > 0 and all_in_range(_joined(limits), 0.0) and all_in_range(_joined(self.fixed_load_kw), -inf)

    def _validate_structure(self, rules: Rules, path: str) -> None:
        index: dict[str, int] = {}
        for i, node_id in enumerate(self.node_ids):
            rules.check(bool(node_id), f"{path}[{i}].node_id", "must not be empty")
            if node_id in index:
                rules.check(
                    False,
                    f"{path}[{i}].node_id",
                    f"must be unique, repeats {path}[{index[node_id]}]: {node_id!r}",
                )
            else:
                index[node_id] = i
        roots = [i for i, parent in enumerate(self.parent_node_ids) if not parent]
        if len(roots) != 1:
            rules.check(False, path, f"must have exactly one root (empty parent_node_id), has {len(roots)}")
        for i, parent in enumerate(self.parent_node_ids):
            if parent and parent not in index:
                rules.check(False, f"{path}[{i}].parent_node_id", f"must name a node of the request, is {parent!r}")
        # Walk up from each node; settled[i] says that i is known to reach a root or a fault already reported.
        settled = [False] * len(self.node_ids)
        for i in range(len(self.node_ids)):
            walk: list[int] = []
            seen: set[int] = set()
            j: int | None = i
            while j is not None and not settled[j]:
                if j in seen:
                    rules.check(
                        False,
                        f"{path}[{j}].parent_node_id",
                        f"must not lead back to the node itself (cycle at {self.node_ids[j]!r})",
                    )
                    break
                seen.add(j)
                walk.append(j)
                j = index.get(self.parent_node_ids[j]) if self.parent_node_ids[j] else None
            for k in walk:
                settled[k] = True


def _joined(rows: Sequence[FloatArray]) -> FloatArray:
    """The rows that are not empty, one after the other."""
    filled = [row for row in rows if len(row)]
    return filled[0] if len(filled) == 1 else np.concatenate(rows)


@dataclass(frozen=True, slots=True)
class SupplyTree:
    """The tree as kernels read it. Nodes keep the caller's order; limits are dense.

    Attributes:
        node_ids: Identifiers.
        parent: Index of the feeding node, -1 at the root. Shape (nodes,).
        order: Node indices, each parent before its children. Shape (nodes,).
        max_import_kw: Infinite where there is no limit. Shape (nodes, steps).
        max_export_kw: As above.
        agreement_import_kw: As above.
        max_current_a: Infinite where there is no limit. Shape (nodes,).
        nominal_voltage_v: Line to neutral. Shape (nodes,).
        fixed_kw: Fixed load of the node and all below it. Shape (nodes, steps).
        fixed_phase_kw: The same per phase. Shape (nodes, 3, steps).
    """

    node_ids: tuple[str, ...]
    parent: IntArray
    order: IntArray
    max_import_kw: FloatArray
    max_export_kw: FloatArray
    agreement_import_kw: FloatArray
    max_current_a: FloatArray
    nominal_voltage_v: FloatArray
    fixed_kw: FloatArray
    fixed_phase_kw: FloatArray

    @property
    def root(self) -> int:
        """Index of the root."""
        return int(self.order[0])

    def path_to_root(self, node: int) -> list[int]:
        """Indices from ``node`` (first) to the root (last)."""
        path = []
        while node >= 0:
            path.append(node)
            node = int(self.parent[node])
        return path

    def total_below(self, node: IntArray, values: FloatArray) -> FloatArray:
        """Sum of what hangs at each node and below it.

        Args:
            node: Node of each row. Shape (n,).
            values: Shape (n, steps).

        Returns:
            Shape (nodes, steps).
        """
        total = np.zeros((len(self.node_ids), values.shape[1]))
        by_node = np.argsort(node, kind="stable")
        first = np.flatnonzero(np.diff(node[by_node], prepend=-1))
        if len(first):
            total[node[by_node[first]]] = np.add.reduceat(values[by_node], first, axis=0)
        for child in self.order[:0:-1]:
            total[self.parent[child]] += total[child]
        return total

    def subtree_matrix(self) -> NDArray[np.bool_]:
        """Entry [a, n] tells whether node n is a or lies below a. Shape (nodes, nodes)."""
        count = len(self.node_ids)
        below = np.eye(count, dtype=np.bool_)
        for n in self.order[::-1]:
            if self.parent[n] >= 0:
                below[self.parent[n]] |= below[n]
        return below


def build_tree(nodes: SupplyNodes, step_count: int) -> SupplyTree:
    """Resolve identifiers, sort parents before children, and spread limits over steps.

    Args:
        nodes: A tree that :meth:`SupplyNodes.validate` accepted.
        step_count: Number of steps of the grid.
    """
    count = len(nodes.node_ids)
    index = {node_id: i for i, node_id in enumerate(nodes.node_ids)}
    parent = np.array([index[p] if p else -1 for p in nodes.parent_node_ids], dtype=np.int64)
    children: list[list[int]] = [[] for _ in range(count)]
    for i, p in enumerate(parent):
        if p >= 0:
            children[p].append(i)
    order = [int(np.flatnonzero(parent < 0)[0])]
    for node in order:
        order.extend(children[node])

    def dense(rows: tuple[FloatArray, ...], absent: float) -> FloatArray:
        out = np.full((count, step_count), absent)
        for i, row in enumerate(rows):
            if row.shape[0]:
                out[i] = row
        return out

    own_kw = dense(nodes.fixed_load_kw, 0.0)
    share = ACTIVE[nodes.fixed_load_phases] / PHASE_COUNT[nodes.fixed_load_phases, None]
    fixed_kw = own_kw.copy()
    fixed_phase_kw = own_kw[:, None, :] * share[:, :, None]
    for node in reversed(order):
        if parent[node] >= 0:
            fixed_kw[parent[node]] += fixed_kw[node]
            fixed_phase_kw[parent[node]] += fixed_phase_kw[node]
    return SupplyTree(
        node_ids=nodes.node_ids,
        parent=parent,
        order=np.array(order, dtype=np.int64),
        max_import_kw=dense(nodes.max_import_kw, np.inf),
        max_export_kw=dense(nodes.max_export_kw, np.inf),
        agreement_import_kw=dense(nodes.agreement_import_kw, np.inf),
        max_current_a=nodes.max_current_a,
        nominal_voltage_v=nodes.nominal_voltage_v,
        fixed_kw=fixed_kw,
        fixed_phase_kw=fixed_phase_kw,
    )
