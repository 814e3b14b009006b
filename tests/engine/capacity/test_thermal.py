"""Temperatures and ageing against the standard's examples and a twin that takes one inner step after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evflex.engine.capacity.ageing_sums import RELATIVE_ERROR, ageing_sums
from evflex.engine.capacity.thermal import Temperatures, initial_state, simulate, steady_state
from evflex.engine.capacity.transformer import (
    Cooling,
    InsulationPaper,
    ThermalParameters,
    ThermalState,
    Transformer,
)
from evflex.engine.supply_tree import FloatArray
from tests.engine.capacity.reference import thermal_twin
from tests.engine.capacity.reference.instances import parameters

CLASSES = {
    "ONAN": ThermalParameters.of(Cooling.ONAN),
    "ONAF": ThermalParameters.of(Cooling.ONAF),
    "OFAF": ThermalParameters.of(Cooling.OFAF),
    "ODAF": ThermalParameters.of(Cooling.ODAF),
    "distribution": ThermalParameters.of(Cooling.ONAN, distribution=True),
}


def test_step_test_of_the_standard_is_met() -> None:
    thermal = ThermalParameters(38.3, 20.3, 1000.0, 0.8, 1.3, 150.0, 7.0, 0.5, 2.0, 2.0)
    ends_min = [190, 365, 500, 705, 730, 745]
    loads = np.repeat([1.0, 0.6, 1.5, 0.3, 2.1, 0.0], np.diff([0, *ends_min]) // 5)
    found = simulate(
        Transformer(1.0, thermal, np.full(loads.shape[0], 25.6)), 300.0, loads, ThermalState(38.3, 0.0, 0.0)
    )
    at = np.array(ends_min) // 5 - 1
    np.testing.assert_allclose(found.top_oil_c[at], [61.9, 44.4, 89.2, 35.0, 67.9, 60.3], atol=1.5)
    last_hot = found.hot_spot_c[at].copy()
    for place, k in enumerate(at.tolist()):
        # the hot-spot at the end of each load, not the largest within its last step
        part = Transformer(1.0, thermal, np.full(k + 1, 25.6))
        last_hot[place] = simulate(part, 300.0, loads[: k + 1], ThermalState(38.3, 0.0, 0.0)).final_state.hot_spot_c
    np.testing.assert_allclose(last_hot, [83.8, 54.0, 127.0, 37.5, 138.6, 75.3], atol=1.5)


@pytest.mark.parametrize("name", CLASSES)
def test_hot_spot_at_rated_load_settles_at_98_degrees(name: str) -> None:
    steps = 96 * 4
    cold = ThermalState(20.0, 0.0, 0.0)
    found = simulate(Transformer(1.0, CLASSES[name], np.full(steps, 20.0)), 900.0, np.ones(steps), cold)
    assert steady_state(CLASSES[name], 1.0, 20.0).hot_spot_c == pytest.approx(98.0)
    assert found.final_state.hot_spot_c == pytest.approx(98.0, abs=1e-3)


@pytest.mark.parametrize(
    ("paper", "rate"), [(InsulationPaper.NORMAL, 1.26), (InsulationPaper.THERMALLY_UPGRADED, 0.350)]
)
def test_ageing_at_100_degrees_is_that_of_the_standard(paper: InsulationPaper, rate: float) -> None:
    transformer = Transformer(1.0, CLASSES["ONAN"], np.full(8, 22.0), paper=paper)
    start = initial_state(transformer, 1.0)
    assert start.hot_spot_c == pytest.approx(100.0)
    found = simulate(transformer, 900.0, np.ones(8), start)
    np.testing.assert_allclose(found.loss_of_life_h / 0.25, rate, rtol=3e-3)


@pytest.mark.parametrize("paper", list(InsulationPaper))
def test_reference_hot_spot_ages_at_rate_one(paper: InsulationPaper) -> None:
    reference_c = 98.0 if paper == InsulationPaper.NORMAL else 110.0
    transformer = Transformer(1.0, CLASSES["ONAF"], np.full(4, reference_c - 78.0), paper=paper)
    found = simulate(transformer, 3600.0, np.ones(4), initial_state(transformer, 1.0))
    np.testing.assert_allclose(found.loss_of_life_h, 1.0, rtol=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
def test_simulation_agrees_with_its_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 40))
    step_s = float(rng.choice([1.0, 40.0, 300.0, 900.0, 3600.0, 1234.5]))
    thermal, paper = parameters(rng), InsulationPaper(int(rng.integers(1, 3)))
    loads, ambient = rng.uniform(0, 1.8, steps) * (rng.random(steps) < 0.9), rng.uniform(-30, 40, steps)
    start = ThermalState(float(rng.uniform(-20, 100)), float(rng.uniform(0, 60)), float(rng.uniform(0, 30)))
    found = simulate(Transformer(1.0, thermal, ambient, paper=paper), step_s, loads, start)
    twin = thermal_twin.simulate(thermal, step_s / 60, loads.tolist(), ambient.tolist(), start, paper == 2)
    assert_same(found, twin)


def assert_same(found: Temperatures, twin: thermal_twin.Twin) -> None:
    np.testing.assert_allclose(found.top_oil_c, twin.top_oil_c, atol=1e-9)
    np.testing.assert_allclose(found.max_top_oil_c, twin.max_top_oil_c, atol=1e-9)
    np.testing.assert_allclose(found.hot_spot_c, twin.hot_spot_c, atol=1e-9)
    np.testing.assert_allclose(found.loss_of_life_h, twin.loss_of_life_h, rtol=1e-9)
    assert found.final_state.hot_spot_c == pytest.approx(twin.state.hot_spot_c, abs=1e-9)


@pytest.mark.parametrize(
    ("inner_count", "largest"), [(15, 0.1), (15, 0.35), (15, 0.95), (60, 1.6), (30, 0.8), (10, 0.3)]
)
@pytest.mark.parametrize("upgraded", [False, True])
def test_few_nodes_sum_ageing_as_exactly_as_proven(inner_count: int, largest: float, upgraded: bool) -> None:
    rng = np.random.default_rng(0)
    sums = ageing_sums(inner_count, largest)
    j, half, middle = np.arange(1.0, inner_count + 1), (inner_count - 1) / 2, (inner_count + 1) / 2
    for choice, reach in enumerate(sums.reach[:-1].tolist()):
        node = sums.node[sums.first[choice] : sums.first[choice + 1]]
        weight = sums.weight[sums.first[choice] : sums.first[choice + 1]]
        assert weight.sum() == pytest.approx(inner_count)
        for _ in range(50):
            lambda_h = rng.choice([1.0, 0.5, 0.2], 3) * largest
            settled = rng.uniform(-20, 160)
            kappa = 15_000 / (settled + 273) ** 2 if upgraded else np.log(2) / 6
            share = rng.dirichlet(np.ones(3)) * rng.choice([-1, 1], 3)
            distance = 0.95 * reach * share / (kappa * lambda_h)

            found = ageing_at(node, middle, lambda_h / half, settled, distance, upgraded) @ weight
            assert found == pytest.approx(
                ageing_at(j, middle, lambda_h / half, settled, distance, upgraded).sum(), rel=RELATIVE_ERROR
            )


def ageing_at(
    at: FloatArray, middle: float, rates: FloatArray, settled_c: float, distance: FloatArray, upgraded: bool
) -> FloatArray:
    decayed = np.exp(-rates[:, None] * (at - middle))
    return np.array([thermal_twin.ageing(float(c), upgraded) for c in settled_c + distance @ (decayed - 1.0)])


def test_few_nodes_reach_further_the_more_they_are() -> None:
    reach = ageing_sums(15, 0.35).reach
    assert (np.diff(reach) > 0).all()
    assert reach[0] > 0.01
