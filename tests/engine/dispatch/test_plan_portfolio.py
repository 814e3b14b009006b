"""Plans of portfolios, whichever way they are found: rules, bounds, gaps, progress and the way back of setpoints."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given

from evflex.engine.dispatch import plan_portfolio, setpoints_from_arrays
from evflex.engine.dispatch.model import DispatchProblem, PlanMethod, PlanOptions
from evflex.engine.dispatch.plan import FleetPlan, PlanProgress
from evflex.engine.termination import StoppedBy
from tests.conftest import SOAK
from tests.engine.dispatch.reference.builders import assets, limit, portfolio
from tests.engine.dispatch.reference.checker import faults
from tests.engine.dispatch.reference.fleets import FEATURES, problems, random_problem
from tests.engine.dispatch.reference.reference_fleet import reference_problem
from tests.engine.dispatch.reference.reference_lp import solve

DECOMPOSED = PlanOptions(method=PlanMethod.DECOMPOSITION)
METHODS = [PlanMethod.DECOMPOSITION, PlanMethod.DIRECT]
SEEDS = range(300 if SOAK else 40)
CONVEX = tuple(name for name in FEATURES if name not in ("minimum", "negative_prices"))


def has_minimum(problem: DispatchProblem) -> bool:
    return bool((problem.fleet.min_charge_kw > 0.0).any())


def assert_sound(problem: DispatchProblem, options: PlanOptions) -> None:
    """Rules are kept, the bound is one, and the gap is as asked where the problem is convex."""
    plan, relaxed, best = plan_portfolio(problem, options), solve(problem), solve(problem, integer=True)
    assert faults(problem, options, plan) == []
    near = 1e-6 * max(1.0, abs(best.objective))
    assert plan.termination.objective >= best.objective - near
    assert plan.termination.objective_bound <= best.objective + near
    if not relaxed.burns and not may_burn(problem):
        assert plan.termination.relative_gap <= options.relative_gap + 1e-9


def may_burn(problem: DispatchProblem) -> bool:
    """Whether energy is worth less than nothing somewhere: answers to prices may burn where the optimum does not."""
    lossy = problem.fleet.charge_efficiency * problem.fleet.discharge_efficiency < 1.0
    return bool(lossy.any()) and float(problem.export_price_per_kwh.min()) < 0.0


@pytest.mark.parametrize("seed", SEEDS)
def test_random_portfolios_are_planned_within_the_gap(seed: int) -> None:
    problem = random_problem(seed)
    if has_minimum(problem):
        problem = random_problem(seed, CONVEX)
    assert_sound(problem, DECOMPOSED)


@given(problems())
def test_any_convex_portfolio_is_planned_within_the_gap(problem: DispatchProblem) -> None:
    assume(not has_minimum(problem))
    assert_sound(problem, DECOMPOSED)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{"v2g": True}, {"feeders": 3}, {}], ids=["v2g", "feeders", "charging"])
def test_a_day_of_the_reference_fleet(method: PlanMethod, options: dict[str, int]) -> None:
    problem = reference_problem(40, 1, v2g=bool(options.get("v2g")), feeders=options.get("feeders", 0))
    plan, best = plan_portfolio(problem, PlanOptions(method=method)), solve(problem)
    assert faults(problem, PlanOptions(method=method), plan) == []
    scale = plan.figures.scale
    assert best.objective - 1e-6 <= plan.termination.objective <= best.objective + 1e-3 * scale + 1e-6
    assert plan.termination.objective_bound <= best.objective + 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(6))
def test_the_same_problem_has_the_same_plan(method: PlanMethod, seed: int) -> None:
    problem, options = random_problem(seed, CONVEX), PlanOptions(method=method)
    one, other = plan_portfolio(problem, options), plan_portfolio(problem, options)
    rows = np.arange(len(problem.fleet))
    np.testing.assert_array_equal(one.setpoints.power_kw(rows), other.setpoints.power_kw(rows))
    assert one.termination.objective_bound == other.termination.objective_bound


@pytest.mark.parametrize("method", METHODS)
def test_progress_tells_bounds_that_never_fall(method: PlanMethod) -> None:
    told: list[PlanProgress] = []
    options = PlanOptions(relative_gap=1e-5, method=method)
    plan = plan_portfolio(reference_problem(50, 1), options, on_progress=told.append)
    assert told
    bounds = [progress.objective_bound for progress in told]
    assert all(later >= earlier for earlier, later in pairwise(bounds))
    assert [progress.iteration for progress in told] == list(range(1, len(told) + 1))
    assert told[-1].objective_bound == pytest.approx(plan.termination.objective_bound)


@pytest.mark.parametrize("method", METHODS)
def test_a_cancelled_plan_is_a_plan_with_its_gap(method: PlanMethod) -> None:
    problem, cancel = reference_problem(50, 1), threading.Event()
    cancel.set()
    plan = plan_portfolio(problem, PlanOptions(method=method), cancel)
    assert faults(problem, None, plan) == []
    assert plan.termination.stopped_by is StoppedBy.CANCELLED
    assert plan.termination.objective_bound <= solve(problem).objective + 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limited", [False, True], ids=["free", "limited"])
def test_a_fleet_without_assets(method: PlanMethod, limited: bool) -> None:
    limits = [limit(2, lower=1.0, price=2.0)] if limited else []
    problem = portfolio(assets([], []), [0.3, 0.1], limits=limits)
    plan = plan_portfolio(problem, PlanOptions(method=method))
    assert faults(problem, None, plan) == []
    assert plan.termination.objective == pytest.approx(4.0 if limited else 0.0)
    assert plan.termination.stopped_by is StoppedBy.NOTHING


@pytest.mark.parametrize("method", METHODS)
def test_a_fleet_of_one(method: PlanMethod) -> None:
    problem = portfolio(assets([0], [2], max_charge_kw=10, energy_needed_kwh=6), [0.3, 0.1])
    plan = plan_portfolio(problem, PlanOptions(method=method))
    assert faults(problem, None, plan) == []
    np.testing.assert_allclose(plan.setpoints.power_kw(np.array([0])), [[0.0, 6.0]], atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_fleet_that_never_comes(method: PlanMethod) -> None:
    problem = portfolio(assets([5], [9], max_charge_kw=8, energy_needed_kwh=5, shortfall_price_per_kwh=1.0), [0.3, 0.1])
    plan = plan_portfolio(problem, PlanOptions(method=method))
    assert faults(problem, None, plan) == []
    assert (plan.termination.objective, plan.assets_short) == (5.0, 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(8))
def test_setpoints_come_back_from_their_arrays(method: PlanMethod, seed: int) -> None:
    problem = random_problem(seed, CONVEX, count=9)
    plan: FleetPlan = plan_portfolio(problem, PlanOptions(method=method))
    back = setpoints_from_arrays(plan.setpoints.to_arrays())
    for rows in (np.arange(9), np.array([7, 2]), np.array([], dtype=np.int64)):
        np.testing.assert_array_equal(back.power_kw(rows), plan.setpoints.power_kw(rows))
