"""Small portfolios in one program: as good as the reference, honest about bounds, and on time."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given

from evflex.engine.budget import Budget
from evflex.engine.dispatch.build import build_oracle
from evflex.engine.dispatch.decomposition import Stop
from evflex.engine.dispatch.direct import Direct, solve_direct
from evflex.engine.dispatch.model import AssetKind, DispatchProblem, PlanMethod, PlanOptions
from evflex.engine.dispatch.optimize import is_small, plan_portfolio
from evflex.engine.dispatch.prepared import prepare
from evflex.engine.termination import StoppedBy, TerminationReason
from evflex.engine.workers import Workers
from tests.conftest import SOAK
from tests.engine.dispatch.reference.builders import assets, limit, portfolio, target
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.fleets import FEATURES, problems, random_problem
from tests.engine.dispatch.reference.reference_fleet import reference_problem
from tests.engine.dispatch.reference.reference_lp import solve
from tests.engine.dispatch.reference.wrap import plan_of_powers

EXACT = PlanOptions(relative_gap=0.0, method=PlanMethod.DIRECT)
SEEDS = range(300 if SOAK else 40)
# What makes the problem one with integers, and the most that goes with it.
BURNING = ("battery", "v2g", "losses", "negative_prices", "target")
CONVEX = tuple(name for name in FEATURES if name not in ("minimum", "negative_prices"))


def assert_exact(problem: DispatchProblem) -> None:
    """The plan keeps every rule and costs what the reference's costs."""
    plan, best = plan_portfolio(problem, EXACT), solve(problem, integer=True)
    assert faults(problem, EXACT, plan) == []
    # where nobody is there and nothing is limited, there is no program
    if prepare(problem).present.any():
        assert plan.termination.method.startswith("direct program")
    assert plan.termination.reason is TerminationReason.OPTIMAL
    near = 1e-6 * max(1.0, abs(best.objective))
    assert plan.termination.objective == pytest.approx(best.objective, abs=near)
    assert plan.termination.objective_bound <= best.objective + near


def directly(
    problem: DispatchProblem, budget: Budget, gap: float = 1e-3, most_integers: float = np.inf
) -> Direct | None:
    """The direct solve alone."""
    prepared = prepare(problem)
    with Workers(1) as workers:
        return solve_direct(prepared, build_oracle(prepared, workers), Stop(gap, 0.0), budget, most_integers)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_portfolios_cost_what_the_reference_costs(seed: int) -> None:
    assert_exact(random_problem(seed))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("features", [BURNING, (*BURNING, "minimum"), CONVEX], ids=["burning", "both", "convex"])
def test_all_of_some_features_at_once(features: tuple[str, ...], seed: int) -> None:
    assert_exact(random_problem(1000 + seed, features))


@pytest.mark.parametrize("feature", FEATURES)
def test_each_feature_by_itself(feature: str) -> None:
    for seed in range(3):
        assert_exact(random_problem(seed, [feature]))


@given(problems())
def test_any_portfolio_costs_what_the_reference_costs(problem: DispatchProblem) -> None:
    assert_exact(problem)


def test_a_binding_limit_has_a_price() -> None:
    fleet = assets([0, 0], [2, 2], max_charge_kw=10, energy_needed_kwh=[4, 6])
    plan = plan_portfolio(portfolio(fleet, [0.3, 0.1], limits=[limit(2, upper=7)]), EXACT)
    np.testing.assert_allclose(plan.limit_price_per_kw_step, [[0, 0.2]], atol=1e-9)


def test_a_lower_limit_that_binds_has_a_negative_price() -> None:
    fleet = assets([0], [2], max_charge_kw=10, energy_needed_kwh=6)
    plan = plan_portfolio(portfolio(fleet, [0.3, 0.1], limits=[limit(2, lower=[2, 0])]), EXACT)
    np.testing.assert_allclose(plan.limit_price_per_kw_step, [[-0.2, 0]], atol=1e-9)


def test_a_convex_problem_needs_no_integers() -> None:
    found = directly(random_problem(3, CONVEX), Budget(60.0), gap=0.0)
    assert found is not None
    assert found.integers == 0


def test_only_what_burns_is_made_whole() -> None:
    # a target below what the battery can lose asks it to burn
    fleet = assets(
        [0], [4], kind=AssetKind.BATTERY, max_charge_kw=10, max_discharge_kw=10, charge_efficiency=0.9,
        discharge_efficiency=0.9, energy_headroom_kwh=2,
    )  # fmt: skip
    problem = portfolio(fleet, [0.1, 0.1, -0.5, 0.1], limits=[target(4, [0, 0, 8, 0], price=1.0)])
    assert solve(problem).burns
    found = directly(problem, Budget(60.0), gap=0.0)
    assert found is not None
    assert 0 < found.integers <= 4
    assert_exact(problem)


def test_a_minimum_power_is_kept_where_it_hurts() -> None:
    fleet = assets([0, 0], [1, 1], max_charge_kw=10, min_charge_kw=4, energy_needed_kwh=3, shortfall_price_per_kwh=1.0)
    problem = portfolio(fleet, [0.1], limits=[limit(1, upper=9, price=2.0)])
    # 3 kWh cannot be charged at 4 kW or more: there is no room for the fourth
    plan = plan_portfolio(problem, EXACT)
    assert plan.termination.objective == pytest.approx(6.0)
    assert plan.termination.method == "direct program with integers"


@pytest.mark.parametrize("seed", range(10))
def test_with_too_many_integers_points_are_rounded(seed: int) -> None:
    problem = random_problem(seed, (*BURNING, "minimum"))
    found, best = directly(problem, Budget(60.0), gap=0.0, most_integers=0), solve(problem, integer=True)
    assert found is not None
    plan = plan_of_powers(problem, found.power_kw, bound=found.bound)
    assert faults(problem, None, plan) == []
    assert found.bound <= best.objective + 1e-6
    assert plan.termination.objective >= best.objective - 1e-6


def test_a_deadline_ends_the_search_with_an_honest_bound() -> None:
    problem = reference_problem(30, 1, v2g=True, minimum=True)
    options = PlanOptions(relative_gap=0.0, time_limit_s=1.0, method=PlanMethod.DIRECT)
    plan = plan_portfolio(problem, options)
    assert faults(problem, options, plan) == []
    assert plan.termination.stopped_by is StoppedBy.TIME
    assert plan.termination.objective_bound >= solve(problem).objective - 1e-6
    assert plan.termination.solve_duration_s < 5.0


def test_a_short_deadline_returns_a_plan_or_nothing() -> None:
    problem = reference_problem(40, 1, minimum=True)
    began_s = time.perf_counter()
    found = directly(problem, Budget(0.05))
    assert time.perf_counter() - began_s < 5.0
    assert found is None or (found.ran_out and np.isfinite(found.bound))


def test_a_cancelled_solve_finds_nothing() -> None:
    cancel = threading.Event()
    cancel.set()
    assert directly(random_problem(1), Budget(60.0, cancel)) is None


def test_cancelling_ends_branch_and_bound() -> None:
    problem, cancel = reference_problem(60, 1, v2g=True, minimum=True), threading.Event()
    timer = threading.Timer(1.0, cancel.set)
    timer.start()
    plan = plan_portfolio(problem, EXACT, cancel)
    timer.join()
    assert plan.termination.stopped_by is StoppedBy.CANCELLED
    assert plan.termination.solve_duration_s < 10.0
    assert faults(problem, EXACT, plan) == []


def test_what_is_small_grows_with_steps_and_minimum_powers() -> None:
    assert is_small(prepare(reference_problem(100, 1)))
    assert is_small(prepare(reference_problem(20, 1, minimum=True)))
    assert not is_small(prepare(reference_problem(300, 1, minimum=True)))
    assert not is_small(prepare(reference_problem(2000, 1, v2g=True)))
