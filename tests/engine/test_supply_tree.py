"""The electrical tree: its rules, and fixed load summed along its branches."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.supply_tree import ACTIVE, PHASE_COUNT, PhaseConnection, SupplyNodes, build_tree
from evflex.engine.validation import Rules

STEPS = 3
NONE = np.empty(0)


def nodes(parents: dict[str, str], **columns: Any) -> SupplyNodes:
    n = len(parents)
    values: dict[str, Any] = {
        "max_import_kw": (NONE,) * n,
        "max_export_kw": (NONE,) * n,
        "agreement_import_kw": (NONE,) * n,
        "max_current_a": np.full(n, np.inf),
        "nominal_voltage_v": np.full(n, 230.0),
        "fixed_load_kw": (NONE,) * n,
        "fixed_load_phases": np.full(n, 7),
    }
    return SupplyNodes(tuple(parents), tuple(parents.values()), **(values | columns))


PAIR = nodes({"grid": "", "car park": "grid"})


def fields_of(supply: SupplyNodes) -> list[str]:
    rules = Rules()
    assert supply.validate(rules, STEPS) is not bool(rules.violations)
    return [violation.field for violation in rules.violations]


def test_a_sound_tree_breaks_no_rule() -> None:
    assert fields_of(PAIR) == []
    assert fields_of(SupplyNodes.single(max_import_kw=5.0, fixed_load_kw=np.zeros(STEPS))) == []


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"node_ids": (), "parent_node_ids": ()}, ["nodes"]),
        ({"node_ids": ("grid", "")}, ["nodes[1].node_id"]),
        ({"node_ids": ("grid", "grid")}, ["nodes[1].node_id"]),
        ({"parent_node_ids": ("", "")}, ["nodes"]),
        ({"parent_node_ids": ("", "attic")}, ["nodes[1].parent_node_id"]),
        ({"parent_node_ids": ("", "car park")}, ["nodes[1].parent_node_id"]),
        ({"parent_node_ids": ("car park", "grid")}, ["nodes", "nodes[0].parent_node_id"]),
        ({"max_import_kw": (NONE, np.zeros(2))}, ["nodes[1].max_import_kw"]),
        ({"max_import_kw": (np.array([-1.0]), NONE)}, ["nodes[0].max_import_kw[0]"]),
        (
            {"max_import_kw": (np.array([1.0, np.nan, np.inf]), NONE)},
            ["nodes[0].max_import_kw[1]", "nodes[0].max_import_kw[2]"],
        ),
        ({"max_export_kw": (NONE, np.array([0.0, -2.0, 0.0]))}, ["nodes[1].max_export_kw[1]"]),
        ({"agreement_import_kw": (np.zeros(4), NONE)}, ["nodes[0].agreement_import_kw"]),
        ({"fixed_load_kw": (NONE, np.array([-1.0, np.nan, 2.0]))}, ["nodes[1].fixed_load_kw[1]"]),
        ({"max_current_a": np.array([-1.0, np.inf])}, ["nodes[0].max_current_a"]),
        ({"max_current_a": np.array([16.0, np.nan])}, ["nodes[1].max_current_a"]),
        ({"nominal_voltage_v": np.array([0.0, 230.0])}, ["nodes[0].nominal_voltage_v"]),
        (
            {"nominal_voltage_v": np.array([np.inf, np.nan])},
            ["nodes[0].nominal_voltage_v", "nodes[1].nominal_voltage_v"],
        ),
        (
            {"fixed_load_phases": np.array([8, -1])},
            ["nodes[0].fixed_load_phases", "nodes[1].fixed_load_phases"],
        ),
    ],
)
def test_each_rule_names_its_field(changes: dict[str, Any], fields: list[str]) -> None:
    assert fields_of(dataclasses.replace(PAIR, **changes)) == fields


def test_a_cycle_away_from_the_root_is_reported_once() -> None:
    assert fields_of(nodes({"grid": "", "a": "c", "b": "a", "c": "b"})) == ["nodes[1].parent_node_id"]


def test_children_may_stand_before_their_parents() -> None:
    assert fields_of(nodes({"a": "grid", "grid": "", "b": "a"})) == []


def test_columns_of_different_lengths_are_named() -> None:
    assert fields_of(dataclasses.replace(PAIR, max_current_a=np.zeros(3))) == ["nodes.max_current_a"]
    assert fields_of(dataclasses.replace(PAIR, fixed_load_kw=(NONE,))) == ["nodes.fixed_load_kw"]


def test_limits_spread_over_steps() -> None:
    limits = (NONE, np.array([4.0]), np.array([1.0, 2.0, 3.0]))
    tree = build_tree(nodes({"grid": "", "a": "grid", "b": "a"}, max_import_kw=limits), STEPS)
    np.testing.assert_array_equal(tree.max_import_kw, [[np.inf] * 3, [4.0] * 3, [1.0, 2.0, 3.0]])
    assert np.isinf(tree.max_export_kw).all()


def test_fixed_load_counts_at_its_node_and_all_above() -> None:
    supply = nodes(
        {"leaf": "panel", "grid": "", "panel": "grid", "other": "grid"},
        fixed_load_kw=(np.array([3.0]), NONE, np.array([-6.0]), np.array([1.0, 2.0, 3.0])),
        fixed_load_phases=np.array([PhaseConnection.L2, 7, 7, PhaseConnection.L3_L1]),
    )
    tree = build_tree(supply, STEPS)
    np.testing.assert_allclose(tree.fixed_kw[:, 1], [3.0, -1.0, -3.0, 2.0])
    np.testing.assert_allclose(tree.fixed_phase_kw[1, :, 1], [-1.0, 1.0, -1.0])
    np.testing.assert_allclose(tree.fixed_phase_kw[0, :, 1], [0.0, 3.0, 0.0])
    assert tree.root == 1
    assert tree.path_to_root(0) == [0, 2, 1]


def test_each_connection_loads_its_phases() -> None:
    loaded = {PhaseConnection(c).name: ACTIVE[c].tolist() for c in range(1, 8)}
    assert loaded == {
        "L1": [1, 0, 0], "L2": [0, 1, 0], "L3": [0, 0, 1], "L1_L2": [1, 1, 0], "L2_L3": [0, 1, 1],
        "L3_L1": [1, 0, 1], "L1_L2_L3": [1, 1, 1],
    }  # fmt: skip
    assert PHASE_COUNT.tolist() == [3, 1, 1, 1, 2, 2, 2, 3]


@given(st.data())
def test_any_tree_in_any_order_is_sorted_from_the_root(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    above = [data.draw(st.integers(0, k - 1)) for k in range(1, n)]
    shuffled = data.draw(st.permutations(range(n)))
    name = {k: f"n{k}" for k in range(n)}
    parents = {name[k]: name[above[k - 1]] if k else "" for k in shuffled}
    supply = nodes(parents, fixed_load_kw=tuple(np.array([float(k)]) for k in shuffled))
    rules = Rules()
    assert supply.validate(rules, STEPS)
    tree = build_tree(supply, STEPS)
    place = {int(node): rank for rank, node in enumerate(tree.order)}
    assert all(tree.parent[k] < 0 or place[int(tree.parent[k])] < place[k] for k in range(n))
    assert tree.fixed_kw[tree.root, 0] == sum(range(n))
    below = tree.subtree_matrix()
    for k in range(n):
        for node in tree.path_to_root(k):
            assert below[node, k]
    assert below.sum() == sum(len(tree.path_to_root(k)) for k in range(n))
    at = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=8)), dtype=np.int64)
    values = np.arange(1.0, 1.0 + len(at) * STEPS).reshape(len(at), STEPS)
    assert np.allclose(tree.total_below(at, values), below[:, at] @ values)


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c"]), st.sampled_from(["", "a", "b", "x"])), max_size=6))
def test_validation_of_any_structure_ends_with_a_verdict(pairs: list[tuple[str, str]]) -> None:
    supply = nodes({str(k): "" for k in range(len(pairs))})
    supply = dataclasses.replace(
        supply, node_ids=tuple(p[0] for p in pairs), parent_node_ids=tuple(p[1] for p in pairs)
    )
    if fields_of(supply) == []:
        tree = build_tree(supply, STEPS)
        assert sorted(tree.order.tolist()) == list(range(len(pairs)))
