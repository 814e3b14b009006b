"""Injections are laid out block by block as a loop over rows, buses and steps would lay them out."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.grid import Network
from evflex.engine.grid.injections import Injections, LoadRows
from tests.engine.grid.random_networks import RADIAL, random_network

SHARES = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.0, 1.0]])


def network_of(buses: int, phases: int = 1) -> Network:
    return random_network(np.random.default_rng(11), buses, RADIAL, phases)


def rows_of(generator: np.random.Generator, count: int, buses: int, phases: int) -> LoadRows:
    share = np.ones((count, 1)) if phases == 1 else SHARES[generator.integers(0, len(SHARES), count)]
    return LoadRows(generator.integers(0, buses, count), share)


def laid_out(rows: LoadRows, power: np.ndarray, base: np.ndarray) -> np.ndarray:
    """(steps, buses, phases) by plain loops."""
    out = np.zeros((power.shape[1], *base.shape)) + base
    for k, bus in enumerate(rows.bus):
        for t in range(power.shape[1]):
            for phase in range(base.shape[1]):
                out[t, bus, phase] += power[k, t] * rows.phase_share[k, phase]
    return out


@pytest.mark.parametrize("phases", [1, 3])
@pytest.mark.parametrize("add", [False, True])
def test_rows_add_up_at_their_buses(phases: int, add: bool) -> None:
    generator = np.random.default_rng(1)
    network = network_of(6, phases)
    rows = rows_of(generator, 9, 6, phases)
    p_kw, q_kvar = generator.normal(size=(2, 9, 7))
    injections = Injections.of_rows(network, rows, p_kw, q_kvar, add_network_loads=add)
    shape = network.load_p_kw.reshape(6, phases).shape
    for power, base, drawn in (
        (p_kw, network.load_p_kw, injections.block(2, 6)[0]),
        (q_kvar, network.load_q_kvar, injections.block(2, 6)[1]),
    ):
        expected = laid_out(rows, power, base.reshape(shape) if add else np.zeros(shape))[2:6]
        assert drawn.shape == ((4, 6) if phases == 1 else (4, 6, 3))
        assert drawn.flags.c_contiguous
        np.testing.assert_allclose(drawn.reshape(expected.shape), expected, atol=1e-12)


@pytest.mark.parametrize("phases", [1, 3])
@pytest.mark.parametrize("add", [False, True])
def test_profiles_are_scaled_and_a_negative_index_is_constant(phases: int, add: bool) -> None:
    generator = np.random.default_rng(2)
    network = network_of(5, phases)
    rows = rows_of(generator, 8, 5, phases)
    profiles = generator.normal(size=(3, 10))
    p_profile, q_profile = generator.integers(-2, 3, (2, 8))
    p_scale, q_scale = generator.normal(size=(2, 8))
    profiled = Injections.of_profiles(
        network, rows, profiles, p_profile, p_scale, q_profile, q_scale, add_network_loads=add
    )
    dense = [
        np.array([s * (profiles[i] if i >= 0 else np.ones(10)) for i, s in zip(index, scale, strict=True)])
        for index, scale in ((p_profile, p_scale), (q_profile, q_scale))
    ]
    expected = Injections.of_rows(network, rows, *dense, add_network_loads=add)
    assert profiled.step_count == 10
    for got, wanted in zip(profiled.block(3, 10), expected.block(3, 10), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)


@pytest.mark.parametrize("phases", [1, 3])
def test_the_networks_own_loads_are_the_same_in_every_step(phases: int) -> None:
    network = network_of(4, phases)
    p_kw, q_kvar = Injections.of_network(network, 5).block(0, 5)
    np.testing.assert_array_equal(p_kw, np.broadcast_to(network.load_p_kw, p_kw.shape))
    np.testing.assert_array_equal(q_kvar, np.broadcast_to(network.load_q_kvar, q_kvar.shape))
    assert len(p_kw) == 5


def test_blocks_add_up_to_the_whole() -> None:
    generator = np.random.default_rng(3)
    network = network_of(3)
    p_kw, q_kvar = generator.normal(size=(2, 4, 11))
    injections = Injections.of_rows(network, rows_of(generator, 4, 3, 1), p_kw, q_kvar, add_network_loads=True)
    parts = [injections.block(first, min(first + 4, 11))[0] for first in range(0, 11, 4)]
    np.testing.assert_array_equal(np.concatenate(parts), injections.block(0, 11)[0])
