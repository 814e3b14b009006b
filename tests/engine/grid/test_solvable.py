"""The nearest load that can be served is that of the equation of two buses, and of trial on random networks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evflex.engine.grid import FlowOptions, Network, nearest_solvable, prepare_grid, run_power_flow
from tests.engine.grid.networks import hand_made
from tests.engine.grid.random_networks import RADIAL, random_network


def two_buses(r: float, x: float, phase_count: int = 1) -> Network:
    """A source and a bus, joined by one impedance."""
    network = random_network(np.random.default_rng(1), 4, RADIAL, phase_count)
    keep = {
        name: getattr(network.branches, name)[:1] for name in network.branches.__dataclass_fields__
    } | {name: np.zeros(1) for name in ("g_from_pu", "b_from_pu", "g_to_pu", "b_to_pu", "shift_deg")}  # fmt: skip
    keep |= {
        "from_bus": np.array([0]), "to_bus": np.array([1]), "r_pu": np.array([r]), "x_pu": np.array([x]),
        "ratio": np.ones(1), "kinds": np.ones(1, dtype=np.int64), "zero_sequence": np.ones(1, dtype=np.int64),
        "from_closed": np.ones(1, dtype=bool), "to_closed": np.ones(1, dtype=bool),
    }  # fmt: skip
    if phase_count == 3:
        keep |= {name: np.zeros(1) for name in ("g0_from_pu", "b0_from_pu", "g0_to_pu", "b0_to_pu")}
        keep |= {"r0_pu": np.array([r]), "x0_pu": np.array([x])}
    buses = {name: getattr(network.buses, name)[:2] for name in network.buses.__dataclass_fields__}
    buses |= {"shunt_g_pu": np.zeros(2), "shunt_b_pu": np.zeros(2)}
    return dataclasses.replace(
        network,
        buses=type(network.buses)(**buses),
        branches=type(network.branches)(**keep),
        sources=type(network.sources)(np.array([0]), np.ones(1), np.zeros(1)),
        load_p_kw=network.load_p_kw[:2],
        load_q_kvar=network.load_q_kvar[:2],
    )


@pytest.mark.parametrize("phase_count", [1, 3])
def test_two_buses_give_way_where_their_equation_has_no_root(phase_count: int) -> None:
    r, x = 0.02, 0.05
    network = two_buses(r, x, phase_count)
    p, q = 40.0, 10.0  # pu
    shape = network.load_p_kw.shape
    p_kw, q_kvar = np.zeros(shape), np.zeros(shape)
    p_kw[1], q_kvar[1] = (power * network.base_kva / phase_count for power in (p, q))
    found = nearest_solvable(prepare_grid(network), p_kw, q_kvar)
    assert found is not None
    # (1/2 − λ (rP + xQ))² = λ² |z|² |S|²
    expected = 0.5 / (r * p + x * q + np.hypot(r, x) * np.hypot(p, q))
    # iterations end a little before the point where both roots meet
    assert found.ratio == pytest.approx(expected, rel=2e-2 if phase_count == 3 else 1e-3)
    assert found.ratio <= expected + 1e-9
    assert found.weakest_bus == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_share_is_solved_and_a_little_more_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(rng, 12, RADIAL)
    grid = prepare_grid(network)
    p_kw = rng.uniform(0.0, 4e5, 12)
    assert not run_power_flow(grid, p_kw[None], 0.3 * p_kw[None]).converged[0]
    found = nearest_solvable(grid, p_kw, 0.3 * p_kw)
    assert found is not None
    for ratio, solved in ((found.ratio, True), (found.ratio + 1e-5, False)):
        flow = run_power_flow(grid, ratio * p_kw[None], ratio * 0.3 * p_kw[None], FlowOptions(max_iterations=60))
        assert bool(flow.converged[0]) is solved
        if solved:
            assert found.weakest_bus == int(np.nanargmin(flow.voltage_pu[0]))


@pytest.mark.parametrize(("r_pu", "x_pu"), [(0.0, 0.1), (0.05, 0.1), (0.2, 0.05)])
@pytest.mark.parametrize("reactive_share", [0.0, 0.4])
def test_largest_load_of_two_buses_is_the_closed_form(r_pu: float, x_pu: float, reactive_share: float) -> None:
    network = hand_made(2, [(0, 1)], r_pu, x_pu, source_pu=1.02)
    # at the end of solutions the load's impedance has the magnitude of the line's
    z, secant = np.hypot(r_pu, x_pu), np.hypot(1.0, reactive_share)
    largest_kw = 1000.0 * 1.02**2 / (2.0 * (r_pu + x_pu * reactive_share + z * secant))
    asked = np.array([0.0, 3.0 * largest_kw])

    found = nearest_solvable(prepare_grid(network), asked, reactive_share * asked)

    assert found is not None
    assert found.ratio * asked[1] == pytest.approx(largest_kw, rel=1e-5)
    assert found.weakest_bus == 1


def test_weakest_bus_is_where_the_load_collapses() -> None:
    network = hand_made(4, [(0, 1), (1, 2), (0, 3)], 0.0, 0.2)
    found = nearest_solvable(prepare_grid(network), np.array([0.0, 0.0, 5000.0, 100.0]), np.zeros(4))
    assert found is not None
    assert found.weakest_bus == 2
    assert found.ratio == pytest.approx(1000.0 / (2.0 * 0.4) / 5000.0, rel=1e-2)
