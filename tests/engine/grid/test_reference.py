"""The reference flows, held against pandapower and power-grid-model on a small network written by hand."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.grid.network import Branches, BranchKind, Buses, Generators, Network, Sources, ZeroSequence
from evflex.engine.grid.network_rules import validate_network
from tests.engine.grid.reference.balanced_reference import reference_flow
from tests.engine.grid.reference.three_phase_reference import reference_flow_3ph

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandapower as pp
import power_grid_model as pgm

BASE_KVA = 1000.0
KV = np.array([10.0, 10.0, 0.4, 0.4, 0.4, 0.4])


def small_network(phase_count: int) -> Network:
    """A source, a line, a transformer turning by 30°, a switch, a line, a line open at its far end, and a bus alone."""
    ohm = KV**2 * 1000.0 / BASE_KVA
    turns, shift = 1.05, 150.0
    m = 5
    r = np.array([0.4 / ohm[0], 0.012, 0.0, 0.05 / ohm[3], 0.02 / ohm[3]])
    x = np.array([0.3 / ohm[0], 0.10, 0.0, 0.02 / ohm[3], 0.01 / ohm[3]])
    half = np.array([0.004, 0.0, 0.0, 2e-4, 1e-4])
    zeros, nan = np.zeros(m), np.full(m, np.nan)
    three = phase_count == 3
    branches = Branches(
        ("line 1", "transformer", "switch", "line 2", "line 3"),
        np.array([BranchKind.LINE, BranchKind.TRANSFORMER, BranchKind.SWITCH, BranchKind.LINE, BranchKind.LINE]),
        np.array([0, 1, 2, 3, 3]), np.array([1, 2, 3, 4, 5]), r, x, zeros, half, zeros, half,
        np.array([1.0, turns, 1.0, 1.0, 1.0]), np.array([0.0, shift, 0.0, 0.0, 0.0]),
        np.ones(m, dtype=bool), np.array([True, True, True, True, False]),
        np.array([100.0, np.nan, np.nan, 300.0, np.nan]), np.array([100.0, np.nan, np.nan, 300.0, np.nan]),
        np.array([np.nan, 400.0, np.nan, np.nan, np.nan]),
        np.array([ZeroSequence.THROUGH, ZeroSequence.TO_EARTH, ZeroSequence.THROUGH, ZeroSequence.THROUGH,
                  ZeroSequence.THROUGH]),
        3.0 * r if three else nan, 3.0 * x if three else nan, zeros if three else nan, 0.5 * half if three else nan,
        zeros if three else nan, 0.5 * half if three else nan,
    )  # fmt: skip
    n = KV.size
    p = np.array([[0, 0, 0], [30, 30, 30], [0, 0, 0], [11, 25, 4], [20, 0, 7], [0, 0, 0]], dtype=float)
    q = 0.3 * p
    g, b = np.zeros(n), np.zeros(n)
    g[4], b[4] = 0.005, -0.004
    return Network(
        BASE_KVA, phase_count,
        Buses(tuple(f"bus {i}" for i in range(n)), KV, g, b, np.full(n, 0.9), np.full(n, 1.1), np.full(n, np.nan),
              np.full(n, np.nan)),
        branches, Sources(np.array([0]), np.array([1.02]), np.array([10.0])),
        Generators(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)),
        p if three else p.sum(axis=1), q if three else q.sum(axis=1),
    )  # fmt: skip


def test_balanced_reference_agrees_with_pandapower() -> None:
    network = small_network(1)
    validate_network(network)
    ohm = KV**2 * 1000.0 / BASE_KVA
    net = pp.create_empty_network(sn_mva=BASE_KVA / 1000.0)
    for kv in KV:
        pp.create_bus(net, kv)
    branches = network.branches
    for k in (0, 3, 4):
        a, b = int(branches.from_bus[k]), int(branches.to_bus[k])
        pp.create_line_from_parameters(
            net, a, b, 1.0, branches.r_pu[k] * ohm[a], branches.x_pu[k] * ohm[a],
            2.0 * branches.b_from_pu[k] / ohm[a] / (2 * np.pi * 50.0) * 1e9, 0.1,
        )  # fmt: skip
    vk, vkr = np.hypot(0.012, 0.10) * 40.0, 0.012 * 40.0
    pp.create_transformer_from_parameters(
        net, 1, 2, 0.4, 10.5, 0.4, vkr, vk, 0.0, 0.0, shift_degree=150.0,
    )  # fmt: skip
    pp.create_switch(net, 2, 3, "b")
    pp.create_switch(net, 5, 2, "l", closed=False)
    pp.create_ext_grid(net, 0, 1.02, 10.0)
    for bus in range(KV.size):
        pp.create_load(net, bus, network.load_p_kw[bus] / 1000.0, network.load_q_kvar[bus] / 1000.0)
    pp.create_shunt(net, 4, 0.004, 0.005)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pp.runpp(net, calculate_voltage_angles=True, tolerance_mva=1e-10, init="dc", trafo_loading="power", numba=False)
    flow = reference_flow(network)
    expected = net.res_bus.vm_pu.to_numpy() * np.exp(1j * np.deg2rad(net.res_bus.va_degree.to_numpy()))
    assert np.isnan(flow.voltage_pu[5])
    assert np.isnan(expected[5])
    np.testing.assert_allclose(flow.voltage_pu[:5], expected[:5], atol=1e-10)
    np.testing.assert_allclose(
        flow.power_from_kva[[0, 3, 4]], 1000.0 * (net.res_line.p_from_mw + 1j * net.res_line.q_from_mvar), atol=1e-6
    )
    losses = 1000.0 * (net.res_line.pl_mw.sum() + net.res_trafo.pl_mw.sum())
    np.testing.assert_allclose(flow.losses_kw, losses, atol=1e-6)
    assert flow.loading_ratio[1] == pytest.approx(net.res_trafo.loading_percent[0] / 100.0, abs=1e-8)
    assert flow.loading_ratio[0] == pytest.approx(net.res_line.i_ka[0] / 0.1, abs=1e-8)


def test_a_generator_holds_its_voltage_and_two_sources_share_the_load() -> None:
    network = small_network(1)
    network = replace(
        network,
        sources=Sources(np.array([0, 3]), np.array([1.02, 0.97]), np.array([10.0, -142.0])),
        generators=Generators(np.array([1, 4]), np.array([-50.0, -5.0]), np.array([1.01, 0.98])),
    )
    flow = reference_flow(network)
    np.testing.assert_allclose(np.abs(flow.voltage_pu[[0, 1, 3, 4]]), [1.02, 1.01, 0.97, 0.98], atol=1e-12)
    # the source and the switch stand on one node
    assert flow.voltage_pu[2] == flow.voltage_pu[3]
    at_generator = flow.current_to_pu[3] + flow.voltage_pu[4] * (0.005 - 0.004j)
    drawn = -(flow.voltage_pu[4] * np.conj(at_generator)).real * BASE_KVA
    assert drawn == pytest.approx(network.load_p_kw[4] - 5.0, abs=1e-6)


def test_three_phase_reference_agrees_with_power_grid_model() -> None:
    network = small_network(3)
    validate_network(network)
    # the switch and the open line are left to their own test: power-grid-model draws a link as a branch
    ohm = KV**2 * 1000.0 / BASE_KVA
    branches = network.branches
    node = pgm.initialize_array("input", "node", 5)
    node["id"], node["u_rated"] = np.arange(5), KV[:5] * 1e3
    lines = [0, 3]
    line = pgm.initialize_array("input", "line", 2)
    line["id"], line["from_node"], line["to_node"] = [10, 13], [0, 2], [1, 4]
    line["from_status"] = line["to_status"] = 1
    base = ohm[branches.from_bus[lines]]
    line["r1"], line["x1"] = branches.r_pu[lines] * base, branches.x_pu[lines] * base
    line["r0"], line["x0"] = branches.r0_pu[lines] * base, branches.x0_pu[lines] * base
    line["c1"] = 2 * branches.b_from_pu[lines] / base / (2 * np.pi * 50.0)
    line["c0"] = 2 * branches.b0_from_pu[lines] / base / (2 * np.pi * 50.0)
    line["tan1"] = line["tan0"] = 0.0
    transformer = pgm.initialize_array("input", "transformer", 1)
    values = {
        "id": 11, "from_node": 1, "to_node": 2, "from_status": 1, "to_status": 1, "u1": 10.5e3, "u2": 400.0,
        "sn": 400e3, "uk": np.hypot(0.012, 0.10) * 0.4, "pk": 0.012 * 0.4 * 400e3, "i0": 0.0, "p0": 0.0,
        "winding_from": 2, "winding_to": 1, "clock": 5, "tap_side": 0, "tap_pos": 0, "tap_min": 0, "tap_max": 0,
        "tap_size": 0.0,
    }  # fmt: skip
    for name, value in values.items():
        transformer[name] = value
    load = pgm.initialize_array("input", "asym_load", 6)
    load["id"], load["status"], load["type"] = 20 + np.arange(6), 1, 0
    load["node"] = [0, 1, 2, 2, 4, 2]
    load["p_specified"], load["q_specified"] = 1e3 * network.load_p_kw, 1e3 * network.load_q_kvar
    shunt = pgm.initialize_array("input", "shunt", 1)
    shunt["id"], shunt["node"], shunt["status"] = 30, 4, 1
    shunt["g1"] = shunt["g0"] = 0.005 / ohm[4]
    shunt["b1"] = shunt["b0"] = -0.004 / ohm[4]
    source = pgm.initialize_array("input", "source", 1)
    source["id"], source["node"], source["status"], source["u_ref"] = 40, 0, 1, 1.02
    source["u_ref_angle"], source["sk"] = np.deg2rad(10.0), 1e14
    model = pgm.PowerGridModel({
        "node": node, "line": line, "transformer": transformer, "asym_load": load, "shunt": shunt, "source": source,
    })  # fmt: skip
    answer = model.calculate_power_flow(symmetric=False, error_tolerance=1e-13, max_iterations=100)
    expected = answer["node"]["u_pu"] * np.exp(1j * answer["node"]["u_angle"])
    # without the open line; a transformer has its positive sequence as zero sequence, as power-grid-model has it
    wound = branches.kinds == BranchKind.TRANSFORMER
    same = replace(
        branches,
        from_closed=branches.to_closed,
        r0_pu=np.where(wound, branches.r_pu, branches.r0_pu),
        x0_pu=np.where(wound, branches.x_pu, branches.x0_pu),
    )
    flow = reference_flow_3ph(replace(network, branches=same))
    np.testing.assert_allclose(flow.voltage_pu[[0, 1, 2, 4]], expected[[0, 1, 2, 4]], atol=1e-9)
    np.testing.assert_allclose(
        np.abs(flow.current_from_pu[3]) * network.base_current_a[3], answer["line"]["i_from"][1], rtol=1e-8
    )


def test_three_phases_alike_are_the_balanced_flow() -> None:
    network = small_network(1)
    third = np.repeat(network.load_p_kw[:, None], 3, axis=1) / 3.0
    balanced = reference_flow(network)
    flow = reference_flow_3ph(replace(small_network(3), load_p_kw=third, load_q_kvar=0.3 * third))
    np.testing.assert_allclose(flow.voltage_pu[:, 0], balanced.voltage_pu, atol=1e-10)
    np.testing.assert_allclose(flow.losses_kw, balanced.losses_kw, atol=1e-7)
    np.testing.assert_allclose(flow.loading_ratio, balanced.loading_ratio, atol=1e-10)
    np.testing.assert_allclose(flow.power_from_kva[4].sum(), balanced.power_from_kva[4], atol=1e-8)
