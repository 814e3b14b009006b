"""Distance to the nearest solvable loading, against the closed form of a two-bus network."""

from __future__ import annotations

import numpy as np
import pytest

from evflex.engine.grid.collapse import nearest_solvable
from evflex.engine.grid.prepared import prepare_grid
from tests.engine.grid.networks import hand_made


@pytest.mark.parametrize(("r_pu", "x_pu"), [(0.0, 0.1), (0.05, 0.1), (0.2, 0.05)])
@pytest.mark.parametrize("reactive_share", [0.0, 0.4])
def test_largest_load_of_two_buses_is_the_closed_form(r_pu: float, x_pu: float, reactive_share: float) -> None:
    network = hand_made(2, [(0, 1)], r_pu, x_pu, source_pu=1.02)
    # at the end of solutions the load's impedance has the magnitude of the line's
    z, secant = np.hypot(r_pu, x_pu), np.hypot(1.0, reactive_share)
    largest_kw = 1000.0 * 1.02**2 / (2.0 * (r_pu + x_pu * reactive_share + z * secant))
    at_load = 1.02 * z / abs(complex(r_pu, x_pu) + z * complex(1.0, reactive_share) / secant)
    asked = np.array([0.0, 3.0 * largest_kw])

    found = nearest_solvable(prepare_grid(network), asked, reactive_share * asked)

    assert found.solvable_ratio * asked[1] == pytest.approx(largest_kw, rel=1e-5)
    assert found.weakest_bus == 1
    assert found.voltage_pu == pytest.approx(at_load, abs=5e-3)


def test_what_has_a_solution_is_its_own_nearest() -> None:
    network = hand_made(3, [(0, 1), (1, 2)])
    found = nearest_solvable(prepare_grid(network), np.array([0.0, 100.0, 200.0]), np.zeros(3))
    assert found.solvable_ratio == 1.0
    assert found.weakest_bus == 2


def test_weakest_bus_is_where_the_load_collapses() -> None:
    network = hand_made(4, [(0, 1), (1, 2), (0, 3)], 0.0, 0.2)
    found = nearest_solvable(prepare_grid(network), np.array([0.0, 0.0, 5000.0, 100.0]), np.zeros(4))
    assert found.weakest_bus == 2
    assert found.solvable_ratio == pytest.approx(1000.0 / (2.0 * 0.4) / 5000.0, rel=1e-2)
