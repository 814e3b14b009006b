"""Power flows: the same as those of a reference that shares no code, step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evflex.engine.grid import FlowOptions, Network, PowerFlow, prepare_grid, run_power_flow
from evflex.engine.validation import InvalidProblemError
from evflex.engine.workers import Workers
from tests.conftest import SOAK
from tests.engine.grid.networks import hand_made
from tests.engine.grid.random_networks import KINDS, RADIAL, random_network, scaled
from tests.engine.grid.reference.balanced_reference import ReferenceFlow, reference_flow
from tests.engine.grid.reference.three_phase_reference import reference_flow_3ph

SEEDS = range(300 if SOAK else 20)
ALL = FlowOptions(complex_voltages=True, branch_flows=True)


def assert_same(flow: PowerFlow, step: int, network: Network, reference: ReferenceFlow) -> None:
    assert flow.converged[step]
    assert flow.complex_voltage_pu is not None
    assert flow.flows is not None
    np.testing.assert_allclose(flow.complex_voltage_pu[step], reference.voltage_pu, atol=1e-8)
    np.testing.assert_allclose(flow.voltage_pu[step], np.abs(reference.voltage_pu), atol=1e-8)
    np.testing.assert_allclose(flow.losses_kw[step], reference.losses_kw, atol=1e-4)
    carried = ~np.isnan(reference.power_from_kva)
    for ours, theirs in (
        (flow.flows.from_p_kw + 1j * flow.flows.from_q_kvar, reference.power_from_kva),
        (flow.flows.to_p_kw + 1j * flow.flows.to_q_kvar, reference.power_to_kva),
    ):
        np.testing.assert_allclose(ours[step][carried], theirs[carried], atol=1e-3)
    base_a = network.base_current_a[network.branches.from_bus]
    current = np.abs(reference.current_from_pu) * (base_a if network.phase_count == 1 else base_a[:, None])
    np.testing.assert_allclose(flow.flows.from_current_a[step][carried], current[carried], atol=1e-4)
    rated = ~np.isnan(reference.loading_ratio)
    np.testing.assert_allclose(flow.branch_loading_ratio[step][rated], reference.loading_ratio[rated], atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_balanced_flows_are_those_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng([seed, 1])
    network = random_network(rng, int(rng.integers(5, 40)), KINDS[seed % len(KINDS)])
    p_kw, q_kvar = scaled(network, np.array([1.0, 0.0, -1.5]))
    flow = run_power_flow(prepare_grid(network), p_kw, q_kvar, ALL)
    for step in range(3):
        assert_same(flow, step, network, reference_flow(network, p_kw[step], q_kvar[step]))


@pytest.mark.parametrize("seed", SEEDS)
def test_flows_of_three_phases_are_those_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    kind = replace(KINDS[seed % len(KINDS)], generators=0)
    network = random_network(rng, int(rng.integers(5, 30)), kind, phase_count=3)
    grid = prepare_grid(network)
    p_kw, q_kvar = scaled(network, np.array([1.0, 0.0, -1.5]))
    flow = run_power_flow(grid, p_kw, q_kvar, ALL)
    for step in range(3):
        assert_same(flow, step, network, reference_flow_3ph(network, p_kw[step], q_kvar[step]))


@pytest.mark.parametrize("phase_count", [1, 3])
def test_steps_do_not_depend_on_their_neighbours_or_on_threads(phase_count: int) -> None:
    rng = np.random.default_rng(5)
    network = random_network(rng, 30, RADIAL, phase_count)
    grid = prepare_grid(network)
    p_kw, q_kvar = scaled(network, rng.uniform(-1.0, 2.0, 1100))
    together = run_power_flow(grid, p_kw, q_kvar, ALL)
    with Workers(2) as workers:
        shared = run_power_flow(grid, p_kw, q_kvar, ALL, workers)
    for name in ("voltage_pu", "branch_loading_ratio", "losses_kw", "converged", "complex_voltage_pu"):
        np.testing.assert_array_equal(getattr(together, name), getattr(shared, name))
    for step in (0, 31, 32, 1099):
        alone = run_power_flow(grid, p_kw[step : step + 1], q_kvar[step : step + 1])
        np.testing.assert_allclose(alone.voltage_pu[0], together.voltage_pu[step], atol=1e-9)


def test_three_equal_phases_are_a_balanced_network() -> None:
    network = random_network(np.random.default_rng(6), 25, RADIAL, phase_count=3)
    even = np.repeat(network.load_p_kw.mean(axis=1)[:, None], 3, axis=1)
    phases = run_power_flow(prepare_grid(network), even[None], 0.2 * even[None])
    one = replace(network, phase_count=1, load_p_kw=even.sum(axis=1), load_q_kvar=0.2 * even.sum(axis=1))
    balanced = run_power_flow(prepare_grid(one), one.load_p_kw[None], one.load_q_kvar[None])
    for phase in range(3):
        np.testing.assert_allclose(phases.voltage_pu[0, :, phase], balanced.voltage_pu[0], atol=1e-8)
    assert phases.voltage_unbalance_ratio is not None
    np.testing.assert_allclose(phases.voltage_unbalance_ratio[0], 0.0, atol=1e-9)
    np.testing.assert_allclose(phases.branch_loading_ratio[0], balanced.branch_loading_ratio[0], atol=1e-7)


@pytest.mark.parametrize("phase_count", [1, 3])
def test_what_no_source_reaches_is_told_and_not_served(phase_count: int) -> None:
    network = random_network(np.random.default_rng(7), 20, replace(RADIAL, switches=0), phase_count)
    cut = network.branches.from_closed.copy()
    cut[4] = False
    beyond = network.branches.to_bus[4]
    grid = prepare_grid(network, cut, cut)
    flow = run_power_flow(grid, network.load_p_kw[None], network.load_q_kvar[None])
    source_side = int(network.sources.bus[0])
    assert flow.converged.all()
    assert flow.energised[source_side]
    assert not flow.energised.all()
    np.testing.assert_array_equal(np.isnan(flow.voltage_pu[0]).reshape(20, -1).any(axis=1), ~flow.energised)
    assert flow.energised[beyond] != flow.energised[network.branches.from_bus[4]]


@pytest.mark.parametrize("seed", range(10))
def test_another_switching_state_is_a_network_of_its_own(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    network = random_network(rng, 25, replace(KINDS[1], switches=0))
    branches = network.branches
    from_closed, to_closed = rng.random((2, network.branch_count)) < 0.9
    switched = prepare_grid(network).switched(from_closed, to_closed)
    anew = replace(network, branches=replace(branches, from_closed=from_closed, to_closed=to_closed))
    p_kw, q_kvar = scaled(network, np.ones(1))
    flow = run_power_flow(switched, p_kw, q_kvar, ALL)
    assert_same(flow, 0, anew, reference_flow(anew, p_kw[0], q_kvar[0]))


@pytest.mark.parametrize("phase_count", [1, 3])
def test_a_step_beyond_collapse_is_not_converged_and_the_others_are(phase_count: int) -> None:
    network = random_network(np.random.default_rng(9), 20, RADIAL, phase_count)
    network = replace(network, load_p_kw=np.abs(network.load_p_kw), load_q_kvar=np.abs(network.load_q_kvar))
    grid = prepare_grid(network)
    p_kw, q_kvar = scaled(network, np.array([1.0, 1000.0, 1.0]))
    flow = run_power_flow(grid, p_kw, q_kvar)
    assert flow.converged.tolist() == [True, False, True]
    assert np.isnan(flow.voltage_pu[1]).all()
    assert np.isnan(flow.losses_kw[1])
    np.testing.assert_allclose(flow.voltage_pu[0], flow.voltage_pu[2], rtol=1e-12)


def test_bad_injections_are_told_by_field() -> None:
    network = random_network(np.random.default_rng(10), 10, RADIAL)
    grid = prepare_grid(network)
    p_kw, q_kvar = scaled(network, np.ones(2))
    with pytest.raises(InvalidProblemError, match=r"q_kvar: must have shape \(steps, 10\), has \(2, 9\)"):
        run_power_flow(grid, p_kw, q_kvar[:, :9])
    p_kw[1, 3] = np.nan
    with pytest.raises(InvalidProblemError, match=r"p_kw\[1\]\[3\]: must be finite"):
        run_power_flow(grid, p_kw, q_kvar)


def test_unbalanced_loads_need_a_path_to_earth() -> None:
    network = random_network(np.random.default_rng(11), 6, replace(RADIAL, switches=0), phase_count=3)
    zero = network.branches.zero_sequence.copy()
    zero[:] = 4
    floating = replace(network, branches=replace(network.branches, zero_sequence=zero))
    floating = replace(floating, buses=replace(floating.buses, shunt_g_pu=np.zeros(6), shunt_b_pu=np.zeros(6)))
    grid = prepare_grid(floating)
    uneven = np.zeros((1, 6, 3))
    bus = int(np.flatnonzero(np.arange(6) != network.sources.bus[0])[0])
    uneven[0, bus, 0] = 5.0
    with pytest.raises(InvalidProblemError, match=rf"p_kw\[0\]\[{bus}\]: must be equal on all phases"):
        run_power_flow(grid, uneven, np.zeros((1, 6, 3)))
    even = np.zeros((1, 6, 3))
    even[0, bus] = 5.0
    flow = run_power_flow(grid, even, np.zeros((1, 6, 3)))
    assert flow.converged.all()


def test_sources_that_switches_join_must_agree() -> None:
    network = random_network(np.random.default_rng(12), 12, replace(RADIAL, switches=1))
    switch = network.branch_count - 1
    ends = np.array([network.branches.from_bus[switch], network.branches.to_bus[switch]])
    network = replace(
        network, sources=replace(network.sources, bus=ends, voltage_pu=np.array([1.0, 1.01]), angle_deg=np.zeros(2))
    )
    with pytest.raises(InvalidProblemError, match=r"sources\[1\]\.voltage_pu: must have the voltage of sources\[0\]"):
        prepare_grid(network)


def test_a_source_alone_holds_its_voltage() -> None:
    network = hand_made(1, [])
    flow = run_power_flow(prepare_grid(network), np.array([[5.0]]), np.zeros((1, 1)))
    assert flow.converged.all()
    np.testing.assert_array_equal(flow.voltage_pu, network.sources.voltage_pu[None])
    assert flow.branch_loading_ratio.shape == (1, 0)
