"""The reference model agrees with the checker, with itself and with the optima known from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evflex.engine.validation import Rules
from tests.conftest import SOAK
from tests.engine.charging.reference import figures, reference_milp
from tests.engine.charging.reference.case import Case
from tests.engine.charging.reference.checker import check
from tests.engine.charging.reference.datasets import LP_OPTIMUM, MILP_OPTIMUM, site_instance
from tests.engine.charging.reference.generators import FEATURES, random_problem, some_features
from tests.engine.charging.reference.wrap import schedule_of


@pytest.mark.parametrize("seed", range(1000 if SOAK else 40))
def test_an_optimum_of_the_reference_passes_the_checker(seed: int) -> None:
    problem, options = random_problem(seed, some_features(seed), count=1 + seed % 4, steps=1 + seed % 7)
    case = Case(problem, options)
    best = reference_milp.solve(problem, options)
    assert check(problem, options, schedule_of(case, best.power_kw)) == []
    np.testing.assert_allclose(figures.ranks(case, best.power_kw), best.ranks, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("seed", range(20))
def test_the_relaxation_bounds_the_optimum(seed: int) -> None:
    problem, options = random_problem(seed, {"min", "priced", "starts", "v2g"}, count=3, steps=5)
    whole = reference_milp.solve(problem, options)
    relaxed = reference_milp.solve(problem, options, relaxed=True)
    assert relaxed.objective <= whole.objective + 1e-6


@pytest.mark.parametrize("feature", FEATURES)
def test_the_generator_makes_valid_problems(feature: str) -> None:
    for seed in range(5):
        problem, options = random_problem(seed, {feature})
        rules = Rules()
        problem.validate(rules)
        options.validate(rules, problem)
        assert rules.violations == []


@pytest.mark.shared_data
def test_the_instance_of_ten_cars_has_its_known_optima(shared_data: Path) -> None:
    problem, options = site_instance(10, minimum=False, folder=shared_data)
    assert reference_milp.solve(problem, options).objective == pytest.approx(LP_OPTIMUM[10], abs=2e-6)


@pytest.mark.shared_data
@pytest.mark.slow
def test_the_instance_of_ten_cars_with_a_minimum_has_its_known_optimum(shared_data: Path) -> None:
    problem, options = site_instance(10, folder=shared_data)
    assert reference_milp.solve(problem, options).objective == pytest.approx(MILP_OPTIMUM[10], abs=2e-6)
